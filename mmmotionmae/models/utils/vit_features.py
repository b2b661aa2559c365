# Copyright (c) MotionMAE contributors. All rights reserved.
"""Features of any block of a video ViT.

Shapes: B clips, C channels, T frames, H W size; t h w the token grid,
L = t*h*w tokens, D width.
"""

from collections.abc import Collection

from mmaction.models.backbones.vit_mae import Block, VisionTransformer
from torch import Tensor

from ...utils.choices import POOLINGS
from .linear import linear
from .transformer import fuse_blocks
from .tubelet import Grid, interpolate_positions, patchify, token_grid


def trained_grid(vit: VisionTransformer) -> Grid:
    """The token grid that the positions of an encoder are of."""
    rows, columns = vit.grid_size
    return (vit.pos_embed.shape[1] // (rows * columns), rows, columns)


def tubelet_of(vit: VisionTransformer) -> tuple[int, int]:
    """Frames of a tubelet, and its height and width in pixels."""
    return vit.patch_embed.projection.kernel_size[0], vit.patch_size


def number_of_block(vit: VisionTransformer, block: int) -> int:
    """The number of a block from the first, 0.

    Args:
        vit: The encoder.
        block: Negative numbers count from the last.

    Raises:
        ValueError: If the encoder has no such block.
    """
    depth = len(vit.blocks)
    if not -depth <= block < depth:
        raise ValueError(
            f'The encoder has {depth} blocks; there is no block {block}.'
        )
    return block % depth


def fuse_stock_blocks(vit: VisionTransformer) -> None:
    """Give an encoder the leaner forward pass of :func:`fuse_blocks`.

    Unless it has blocks that are not MMAction2's own.
    """
    if all(type(block) is Block for block in vit.blocks):
        fuse_blocks(vit.blocks)


def embed_clips(
    vit: VisionTransformer, clips: Tensor, positions: Tensor | None = None
) -> tuple[Tensor, Grid]:
    """Embed clips: the input of the first block.

    Args:
        vit: The encoder.
        clips: (B, C, T, H, W), normalised; of any size that divides evenly
            into tubelets.
        positions: (1, L, D), for the grid of these clips. Defaults to those
            of the encoder, interpolated in space and time where the grid is
            not the one that it was trained with.

    Returns:
        (B, L, D), and the grid (t, h, w).

    Raises:
        ValueError: If the clips do not divide evenly.
    """
    conv = vit.patch_embed.projection
    tubelet = tubelet_of(vit)
    t, h, w = clips.shape[-3:]
    grid = token_grid(t, h, w, *tubelet)
    if positions is None:
        positions = interpolate_positions(
            vit.pos_embed, trained_grid(vit), grid
        )
    tubelets = patchify(clips, *tubelet)
    x = linear(tubelets.flatten(2), conv.weight.flatten(1), conv.bias)
    return x + positions, grid


def read_blocks(
    vit: VisionTransformer, clips: Tensor, blocks: Collection[int]
) -> tuple[dict[int, Tensor], Grid]:
    """The outputs of some blocks, without any final norm.

    Blocks after the last one that is asked for are not run.

    Args:
        vit: The encoder, in evaluation mode.
        clips: (B, C, T, H, W), normalised.
        blocks: Their numbers, from 0.

    Returns:
        For each of ``blocks`` (B, L, D), and the grid (t, h, w).

    Raises:
        ValueError: As :func:`embed_clips`.
    """
    x, grid = embed_clips(vit, clips)
    outputs = {}
    for number, block in enumerate(vit.blocks[: max(blocks) + 1]):
        x = block(x)
        if number in blocks:
            outputs[number] = x
    return outputs, grid


def pool_tokens(
    vit: VisionTransformer,
    tokens: Tensor,
    grid: Grid,
    pooling: str = 'mean',
    final_norm: bool = True,
) -> Tensor:
    """Make features of the output of a block.

    There is no class token in a video masked autoencoder; the mean of all
    tokens stands in for it.

    The final norm is applied where the encoder was trained to have it: an
    encoder with mean pooling (``fc_norm``, a fine-tuned one) has it after the
    mean, any other (``norm``, a pre-trained one) before. So the mean of the
    last block is what the head of a recognizer sees.

    Args:
        vit: The encoder.
        tokens: (B, L, D).
        grid: (t, h, w) with t*h*w = L.
        pooling: What is averaged. ``'mean'``: all tokens. ``'space'``: the
            tokens of each slot. ``'time'``: the slots. ``'none'``: nothing.
        final_norm: Whether to apply the encoder's last norm.

    Returns:
        (B, D), (B, t, D), (B, h, w, D) or (B, t, h, w, D).

    Raises:
        ValueError: If there is no such pooling.
    """
    if pooling not in POOLINGS:
        raise ValueError(
            f'pooling must be one of {", ".join(POOLINGS)}, not {pooling!r}.'
        )
    late_norm = getattr(vit, 'fc_norm', None)
    if final_norm:
        tokens = vit.norm(tokens)  # the identity where there is `fc_norm`
    if pooling == 'mean':
        tokens = tokens.mean(1)
    else:
        tokens = tokens.unflatten(1, grid)
        if pooling == 'space':
            tokens = tokens.mean((2, 3))
        elif pooling == 'time':
            tokens = tokens.mean(1)
    if final_norm and late_norm is not None:
        tokens = late_norm(tokens)
    return tokens
