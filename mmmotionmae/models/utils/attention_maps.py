# Copyright (c) MotionMAE contributors. All rights reserved.
"""Attention of a video ViT over a clip.

Shapes: B clips, C channels, T frames, H W size; t h w the token grid,
L = t*h*w tokens, D width, A heads.
"""

import torch
from mmaction.models.backbones.vit_mae import Attention, VisionTransformer
from torch import Tensor

from ...utils.choices import ATTENTION_KINDS
from ...utils.errors import UsageError
from .linear import linear
from .vit_features import embed_clips


def attention_weights(attention: Attention, x: Tensor) -> Tensor:
    """The weights by which each token attends to each.

    Args:
        attention: Of a block of MMAction2's ``vit_mae``.
        x: (B, L, D), its input.

    Returns:
        (B, A, L, L), softmax(q k / sqrt(D / A)); each row sums to 1.
    """
    q, k, _ = linear(x, attention.qkv.weight).chunk(3, -1)
    if hasattr(attention, 'q_bias'):  # keys have none
        q = q + attention.q_bias
    q, k = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for part in (q, k)
    )
    return (q * attention.scale @ k.transpose(-2, -1)).softmax(-1)


@torch.no_grad()
def attention_maps(
    vit: VisionTransformer, clips: Tensor, kind: str = 'rollout'
) -> Tensor:
    """Attention of the mean token: the share of each place of a clip.

    A video masked autoencoder has no class token; its features are the mean
    of all tokens, and so are these maps a mean over the tokens that attend.

    ``'last'``: the weights of the last block, mean over its heads.
    ``'rollout'``: attention rollout (Abnar and Zuidema, Quantifying Attention
    Flow in Transformers, ACL 2020, section 3): with W_i the weights of block
    i, mean over its heads, A_i = (W_i + I) / 2 for the skip connection, the
    product A_n ... A_1 of all blocks.

    Args:
        vit: The encoder, in evaluation mode.
        clips: (B, C, T, H, W), normalised; of any size that divides evenly
            into tubelets.
        kind: ``'rollout'`` or ``'last'``.

    Returns:
        (B, t, h, w); each clip's sums to 1.

    Raises:
        UsageError: If there is no such kind.
        ValueError: As :func:`embed_clips`.
    """
    if kind not in ATTENTION_KINDS:
        raise UsageError(
            f'kind must be one of {", ".join(ATTENTION_KINDS)}, not {kind!r}.'
        )
    x, grid = embed_clips(vit, clips)
    # The mean token as a mixture of inputs of the block, from the last block
    # on: a row (B, 1, L) instead of the product of matrices.
    weights = []
    for number, block in enumerate(vit.blocks, 1):
        if kind == 'rollout' or number == len(vit.blocks):
            heads = attention_weights(block.attn, block.norm1(x))
            weights.append(heads.mean(1))
        x = block(x)
    row = x.new_full((len(x), 1, x.size(1)), 1 / x.size(1))
    for weight in reversed(weights):
        attended = row @ weight
        row = attended if kind == 'last' else (attended + row) / 2
    return row[:, 0].unflatten(1, grid)
