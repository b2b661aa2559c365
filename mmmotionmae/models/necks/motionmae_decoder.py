# Copyright (c) MotionMAE contributors. All rights reserved.
"""The decoder.

Shapes: B clips, L tokens, V visible and M masked tokens, D width of the
encoder, E width of the decoder.
"""

from collections.abc import Iterable

import torch
from mmaction.models.backbones.vit_mae import get_sinusoid_encoding
from mmaction.registry import MODELS
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ...utils.errors import UsageError
from ..targets import DEFAULT_TARGETS
from ..utils.linear import Linear
from ..utils.transformer import (
    CrossAttentionBlock,
    build_blocks,
    run_blocks,
)
from ..utils.tubelet import TokenSplit, select_tokens


class _Decoder(BaseModule):
    """One network from the latent to the masked tokens (VideoMAE, 3.2)."""

    def __init__(
        self,
        num_tokens: int,
        in_channels: int,
        embed_dims: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self._build_blocks(
            in_channels, embed_dims, depth, num_heads, mlp_ratio
        )
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        self.pos_embed: Tensor
        self.register_buffer(
            'pos_embed', get_sinusoid_encoding(num_tokens, embed_dims)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)

    def _build_blocks(
        self,
        in_channels: int,
        embed_dims: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        self.embed = Linear(in_channels, embed_dims, bias=False)
        self.blocks = build_blocks(depth, embed_dims, num_heads, mlp_ratio)

    def forward(
        self, latent: Tensor, visible: Tensor, masked: Tensor
    ) -> Tensor:
        x = torch.cat(
            (
                self.embed(latent) + select_tokens(self.pos_embed, visible),
                self.mask_token + select_tokens(self.pos_embed, masked),
            ),
            dim=1,
        )
        x = run_blocks(self.blocks, x, self.with_cp, masked.size(1))
        return self.norm(x)


class _CrossDecoder(_Decoder):
    """Masked tokens that see the latent, but not each other (CrossMAE)."""

    def _build_blocks(
        self,
        in_channels: int,
        embed_dims: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        self.blocks = ModuleList(
            CrossAttentionBlock(embed_dims, in_channels, num_heads, mlp_ratio)
            for _ in range(depth)
        )

    def forward(
        self, latent: Tensor, visible: Tensor, masked: Tensor
    ) -> Tensor:
        x = self.mask_token + select_tokens(self.pos_embed, masked)
        x = run_blocks(self.blocks, x, self.with_cp, latent=latent)
        return self.norm(x)


_DECODERS = {'self': _Decoder, 'cross': _CrossDecoder}


@MODELS.register_module()
class MotionMAEDecoder(BaseModule):
    """Predict what stands at the masked positions.

    Args:
        num_tokens (int): L, the tokens of a clip. :class:`MotionMAE` fills
            it in from the encoder.
        in_channels (int): Width D of the latent. :class:`MotionMAE` fills it
            in.
        targets (Iterable[str]): The names of what is predicted.
            :class:`MotionMAE` fills it in. Defaults to pixels and motion.
        embed_dims (int): Width E. Defaults to 384 (best in the paper's
            ablation with ViT-B).
        depth (int): Number of blocks. Defaults to 4 (likewise).
        num_heads (int): Number of attention heads. Defaults to 6.
        mlp_ratio (float): Hidden width of the MLP over E. Defaults to 4.
        sharing (str): ``'shared'``: one network for all targets, which part
            only in the head's last layers, at no extra cost.
            ``'independent'``: one network for each target; slightly better
            in the paper, at about 40 % more GPU hours there (64 % more time
            in our own benchmark on a CPU). Defaults to ``'shared'``.
        attention (str): ``'self'``: visible and masked tokens attend to each
            other, as in MotionMAE and VideoMAE. ``'cross'``: masked tokens
            attend to the latent alone, at a fraction of the cost; CrossMAE's
            decoder with the last features of the encoder only. Defaults to
            ``'self'``.
        with_cp (bool): Use activation checkpointing. Defaults to False.
        init_cfg (dict or list[dict], optional): Initialisation. Defaults to
            Xavier uniform for linear layers, as in VideoMAE.

    Raises:
        ValueError: If ``sharing`` or ``attention`` is none of the above,
            there are no targets, or ``depth`` is below 1.
    """

    def __init__(
        self,
        num_tokens: int,
        in_channels: int,
        targets: Iterable[str] = tuple(DEFAULT_TARGETS),
        embed_dims: int = 384,
        depth: int = 4,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        sharing: str = 'shared',
        attention: str = 'self',
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = [
            dict(type='Xavier', layer='Linear', distribution='uniform'),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ) -> None:
        super().__init__(init_cfg)
        if sharing not in ('shared', 'independent'):
            raise UsageError(
                f"sharing must be 'shared' or 'independent', not {sharing!r}."
            )
        if attention not in _DECODERS:
            raise UsageError(
                f"attention must be 'self' or 'cross', not {attention!r}."
            )
        if depth < 1:
            raise UsageError(f'A decoder of depth {depth} has no blocks.')
        self.targets = tuple(targets)
        if not self.targets:
            raise UsageError('targets must be one name or several, not none.')
        self.sharing = sharing
        self.embed_dims = embed_dims
        names = ('shared',) if sharing == 'shared' else self.targets
        self.decoders = nn.ModuleDict(
            {
                name: _DECODERS[attention](
                    num_tokens,
                    in_channels,
                    embed_dims,
                    depth,
                    num_heads,
                    mlp_ratio,
                    with_cp,
                )
                for name in names
            }
        )

    def forward(self, latent: Tensor, split: TokenSplit) -> dict[str, Tensor]:
        """Decode the masked tokens.

        Args:
            latent: (B, V, D), visible tokens in token order.
            split: Which tokens are visible, and which are masked.

        Returns:
            For each target the masked tokens (B, M, E), in token order, after
            the final norm; with a shared decoder the same tensor for all.
        """
        tokens = {
            name: decoder(latent, split.visible, split.masked)
            for name, decoder in self.decoders.items()
        }
        if self.sharing == 'shared':
            return dict.fromkeys(self.targets, tokens['shared'])
        return tokens
