# Copyright (c) MotionMAE contributors. All rights reserved.
"""The encoder.

Shapes: B clips, C channels, T frames, H W size, L tokens, V visible tokens,
D width.
"""

from typing import Any

from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import MODELS
from mmengine.model import ModuleList
from torch import Tensor, nn

from ..utils.linear import linear
from ..utils.transformer import fuse_blocks, run_blocks
from ..utils.tubelet import (
    Grid,
    TokenSplit,
    patchify,
    select_tokens,
    select_tubelets,
    token_grid,
)


@MODELS.register_module()
class MotionMAEViT(VisionTransformer):
    """Vision transformer that encodes the visible tokens of a clip.

    MMAction2's ``VisionTransformer`` with the same parameters and the same
    state-dict keys, so that checkpoints go both ways. It differs in the
    forward pass: masked tokens are never embedded, attention is fused, and
    the result is the tokens themselves.

    Args:
        img_size (int): Height and width of a frame, in pixels.
            Defaults to 224.
        patch_size (int): Height and width of a tubelet, in pixels.
            Defaults to 16.
        embed_dims (int): Width D. Defaults to 768.
        depth (int): Number of blocks. Defaults to 12.
        num_heads (int): Number of attention heads. Defaults to 12.
        qkv_bias (bool): Give queries and values a bias (keys never have
            one). Defaults to True.
        qk_scale (float, optional): Factor of queries times keys. Defaults to
            the inverse root of a head's width.
        drop_rate (float): Dropout of embedded tokens and of the outputs of
            attention and MLP. Defaults to 0.
        attn_drop_rate (float): Dropout of attention weights. Defaults to 0.
        num_frames (int): Frames T of a clip. Defaults to 16.
        tubelet_size (int): Frames of a tubelet. Defaults to 2.
        use_learnable_pos_emb (bool): Learn the positions instead of using
            the sine-cosine table. Defaults to False.
        with_cp (bool): Use activation checkpointing. Defaults to False.
        init_cfg (dict or list[dict], optional): Initialisation. Defaults to
            Xavier uniform for linear layers, as in VideoMAE's pre-training.
        **kwargs: As in ``VisionTransformer``. There is no mean pooling: the
            final norm is applied to every token.

    Raises:
        ValueError: If frames or size do not divide evenly into tubelets, or
            ``img_size`` is not an int.

    Examples:
        >>> import torch
        >>> from mmmotionmae.models.utils.tubelet import split_mask
        >>> vit = MotionMAEViT(
        ...     img_size=32, patch_size=8, embed_dims=16, depth=1,
        ...     num_heads=2, num_frames=8)
        >>> mask = torch.zeros(2, 64, dtype=torch.bool)
        >>> mask[:, :48] = True
        >>> vit(torch.rand(2, 3, 8, 32, 32), split_mask(mask)).shape
        torch.Size([2, 16, 16])
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        embed_dims: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        num_frames: int = 16,
        tubelet_size: int = 2,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = [
            dict(type='Xavier', layer='Linear', distribution='uniform'),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
        **kwargs: Any,
    ) -> None:
        if not isinstance(img_size, int):
            raise ValueError(
                'img_size must be one int, the side of square frames; got '
                f'{img_size!r}.'
            )
        grid = token_grid(
            num_frames, img_size, img_size, tubelet_size, patch_size
        )
        super().__init__(
            img_size=img_size,
            patch_size=patch_size,
            embed_dims=embed_dims,
            depth=depth,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            num_frames=num_frames,
            tubelet_size=tubelet_size,
            use_mean_pooling=False,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.token_grid: Grid = grid
        self.tubelet_size = tubelet_size
        self.with_cp = with_cp
        self.blocks: ModuleList
        self.norm: nn.Module
        self.pos_embed: Tensor
        fuse_blocks(self.blocks)

    @property
    def in_channels(self) -> int:
        """int: C, the channels of a frame."""
        return self.patch_embed.projection.in_channels

    @property
    def num_tokens(self) -> int:
        """int: L, the tokens of one clip."""
        t, h, w = self.token_grid
        return t * h * w

    def embed(self, tubelets: Tensor) -> Tensor:
        """Embed tubelets.

        The stride of the stock 3-D convolution equals its kernel, so it is a
        matrix product per tubelet.

        Args:
            tubelets: (B, N, C, P).

        Returns:
            (B, N, D).
        """
        conv = self.patch_embed.projection
        return linear(tubelets.flatten(2), conv.weight.flatten(1), conv.bias)

    def forward(self, clip: Tensor, split: TokenSplit | None = None) -> Tensor:
        """Encode the visible tokens.

        Args:
            clip: (B, C, T, H, W), normalised, float.
            split: Which tokens are visible. Defaults to all.

        Returns:
            The latent: (B, V, D), visible tokens in token order, after the
            final norm.

        Raises:
            ValueError: If clip or split do not fit the token grid.
            TypeError: If the split is a mask.
        """
        t, h, w = clip.shape[-3:]
        grid = token_grid(t, h, w, self.tubelet_size, self.patch_size)
        if grid != self.token_grid:
            raise ValueError(
                f'The clip has a token grid of {grid}, but the encoder was '
                f'built for {self.token_grid}: set its num_frames and '
                'img_size to those of the pipeline.'
            )
        if split is None:
            tubelets = patchify(clip, self.tubelet_size, self.patch_size)
            position = self.pos_embed
        else:
            if not isinstance(split, TokenSplit):
                raise TypeError('Give split_mask(mask), not the mask itself.')
            found = (len(split.visible), split.num_tokens)
            if found != (len(clip), self.num_tokens):
                raise ValueError(
                    f'The mask has shape {found}, but the clips have '
                    f'{(len(clip), self.num_tokens)} tokens: give the '
                    'masking transform the patch_size and tubelet_size of '
                    'the encoder.'
                )
            visible = split.visible
            tubelets = select_tubelets(
                clip, visible, self.tubelet_size, self.patch_size
            )
            position = select_tokens(self.pos_embed, visible)
        x = self.pos_drop(self.embed(tubelets) + position)
        return self.norm(run_blocks(self.blocks, x, self.with_cp))
