# Copyright (c) MotionMAE contributors. All rights reserved.
"""Transformer blocks with MMAction2's parameters and a leaner forward pass.

Shapes: B clips, N tokens, Q of them queries, V visible tokens, D width of the
encoder, E width of the decoder, H heads.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from mmaction.models.backbones.vit_mae import Attention, Block
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .linear import Linear, gelu_linear, linear


class FusedAttention(Attention):
    """MMAction2's attention by ``scaled_dot_product_attention``.

    Same parameters, same state-dict keys, same result.
    """

    def forward(self, x: Tensor, num_queries: int | None = None) -> Tensor:
        """Attend to all tokens.

        Args:
            x: (B, N, D).
            num_queries: Q. Only the last Q tokens attend. Defaults to all.

        Returns:
            (B, Q, D).
        """
        weight, bias = self.qkv.weight, self._qkv_bias()
        heads = dict(h=self.num_heads)
        if num_queries is None:
            q, k, v = rearrange(
                linear(x, weight, bias),
                'b n (three h d) -> three b h n d',
                three=3,
                **heads,
            )
        else:
            width = self.embed_dims
            bias_q, bias_kv = (
                (None, None) if bias is None else (bias[:width], bias[width:])
            )
            q = rearrange(
                linear(x[:, -num_queries:], weight[:width], bias_q),
                'b n (h d) -> b h n d',
                **heads,
            )
            k, v = rearrange(
                linear(x, weight[width:], bias_kv),
                'b n (two h d) -> two b h n d',
                two=2,
                **heads,
            )
        x = F.scaled_dot_product_attention(
            q,
            k,
            v,
            dropout_p=self.attn_drop.p if self.training else 0.0,
            scale=self.scale,
        )
        return self.proj_drop(self.proj(rearrange(x, 'b h n d -> b n (h d)')))

    def _qkv_bias(self) -> Tensor | None:
        if not hasattr(self, 'q_bias'):
            return None
        return torch.cat(
            (self.q_bias, torch.zeros_like(self.v_bias), self.v_bias)
        )


class FusedFFN(FFN):
    """MMCV's two-layer FFN without its largest activation in memory.

    Same parameters, same state-dict keys; same result as an FFN of
    ``add_identity=False``, as MMAction2's blocks have it. Another one cannot
    be fused, for nothing is added here.
    """

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """(B, N, D) to (B, N, D); ``identity`` is not used."""
        (first, _, dropout), second, last_dropout = self.layers
        # Whoever put another layer in place of one, an adapter say, wants it
        # to be called.
        if type(second) is not Linear or (self.training and dropout.p > 0):
            return super().forward(x, identity)
        x = gelu_linear(first(x), second.weight, second.bias)
        return last_dropout(x)


class FusedBlock(Block):
    """MMAction2's block with :class:`FusedAttention` and :class:`FusedFFN`.

    Same parameters, same state-dict keys, same result.
    """

    def forward(self, x: Tensor, num_queries: int | None = None) -> Tensor:
        """Apply the block.

        Args:
            x: (B, N, D).
            num_queries: Q. Only the last Q tokens are computed; the others
                are attended to. Defaults to all.

        Returns:
            (B, Q, D).
        """
        attended = self.attn(self.norm1(x), num_queries)
        if num_queries is not None:
            x = x[:, -num_queries:]
        has_scales = hasattr(self, 'gamma_1')
        if has_scales:
            attended = self.gamma_1 * attended
        x = x + self.drop_path(attended)
        transformed = self.mlp(self.norm2(x))
        if has_scales:
            transformed = self.gamma_2 * transformed
        return x + self.drop_path(transformed)


class CrossAttention(BaseModule):
    """Attention of masked tokens to the latent (CrossMAE, section 3.2).

    Args:
        embed_dims (int): Width E of the queries.
        latent_dims (int): Width D of the latent.
        num_heads (int): Number of attention heads.
    """

    def __init__(
        self, embed_dims: int, latent_dims: int, num_heads: int
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = Linear(embed_dims, embed_dims)
        self.kv = Linear(latent_dims, 2 * embed_dims)
        self.proj = Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """(B, Q, E) and (B, V, D) to (B, Q, E)."""
        heads = dict(h=self.num_heads)
        q = rearrange(self.q(x), 'b n (h d) -> b h n d', **heads)
        k, v = rearrange(
            self.kv(latent), 'b n (two h d) -> two b h n d', two=2, **heads
        )
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(x, 'b h n d -> b n (h d)'))


class CrossAttentionBlock(BaseModule):
    """A decoder block without self-attention (CrossMAE, section 3.2).

    Args:
        embed_dims (int): Width E of the decoder.
        latent_dims (int): Width D of the latent.
        num_heads (int): Number of attention heads.
        mlp_ratio (float): Hidden width of the MLP over E.
    """

    def __init__(
        self,
        embed_dims: int,
        latent_dims: int,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = CrossAttention(embed_dims, latent_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = FFN(
            embed_dims,
            int(embed_dims * mlp_ratio),
            act_cfg=dict(type='GELU'),
            add_identity=False,
        )
        _fuse_ffn(self.mlp)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """(B, Q, E) and (B, V, D) to (B, Q, E)."""
        x = x + self.attn(self.norm1(x), latent)
        return x + self.mlp(self.norm2(x))


def fuse_blocks(blocks: Iterable[Block]) -> None:
    """Give stock blocks the leaner forward pass.

    Their class is changed, nothing else: parameters, keys and what refers to
    them stay as they are.

    Args:
        blocks: Blocks of MMAction2's ``vit_mae``; changed in place.
    """
    for block in blocks:
        block.__class__ = FusedBlock
        block.attn.__class__ = FusedAttention
        block.attn.proj.__class__ = Linear
        _fuse_ffn(block.mlp)


def _fuse_ffn(ffn: FFN) -> None:
    assert not ffn.add_identity, 'It would not be added.'
    ffn.__class__ = FusedFFN
    ffn.layers[0][0].__class__ = ffn.layers[1].__class__ = Linear


def build_blocks(
    depth: int, embed_dims: int, num_heads: int, mlp_ratio: float
) -> ModuleList:
    """Fused blocks for the decoder."""
    blocks = ModuleList(
        Block(embed_dims, num_heads, mlp_ratio=mlp_ratio) for _ in range(depth)
    )
    fuse_blocks(blocks)
    return blocks


def run_blocks(
    blocks: ModuleList,
    x: Tensor,
    with_cp: bool,
    num_queries: int | None = None,
    latent: Tensor | None = None,
) -> Tensor:
    """Apply blocks in turn.

    Args:
        blocks: The blocks.
        x: (B, N, D).
        with_cp: Recompute each block's activations in the backward pass
            instead of keeping them: less memory, more time.
        num_queries: Q. Only the last Q tokens are wanted, so the last block
            computes no others. Defaults to all.
        latent: (B, V, D), what :class:`CrossAttentionBlock` attends to.

    Returns:
        (B, Q, D).
    """
    for number, block in enumerate(blocks, 1):
        extra: tuple = ()
        if latent is not None:
            extra = (latent,)
        elif num_queries is not None and number == len(blocks):
            extra = (num_queries,)
        if with_cp and x.requires_grad:
            x = checkpoint(block, x, *extra, use_reentrant=False)
        else:
            x = block(x, *extra)
    return x
