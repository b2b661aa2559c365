# Copyright (c) MotionMAE contributors. All rights reserved.
"""Transformer blocks with MMAction2's parameters and fused attention."""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from mmaction.models.backbones.vit_mae import Attention, Block
from mmengine.model import ModuleList
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class FusedAttention(Attention):
    """MMAction2's attention, computed by ``scaled_dot_product_attention``.

    Same parameters, same state-dict keys, same result.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        bias = None
        if hasattr(self, 'q_bias'):
            bias = torch.cat(
                (self.q_bias, torch.zeros_like(self.v_bias), self.v_bias)
            )
        qkv = F.linear(x, self.qkv.weight, bias)
        q, k, v = rearrange(
            qkv, 'b n (three h d) -> three b h n d', three=3, h=self.num_heads
        )
        x = F.scaled_dot_product_attention(
            q,
            k,
            v,
            dropout_p=self.attn_drop.p if self.training else 0.0,
            scale=self.scale,
        )
        return self.proj_drop(self.proj(rearrange(x, 'b h n d -> b n (h d)')))


def fuse_attention(blocks: ModuleList, **kwargs: Any) -> None:
    """Give stock blocks the fused attention.

    Args:
        blocks: Blocks of MMAction2's ``vit_mae``; changed in place.
        **kwargs: What the blocks' attention was built with.
    """
    for block in blocks:
        block.attn = FusedAttention(**kwargs)


def build_blocks(
    depth: int, embed_dims: int, num_heads: int, mlp_ratio: float
) -> ModuleList:
    """Stock blocks with fused attention, for the decoder."""
    blocks = ModuleList(
        Block(embed_dims, num_heads, mlp_ratio=mlp_ratio) for _ in range(depth)
    )
    fuse_attention(blocks, embed_dims=embed_dims, num_heads=num_heads)
    return blocks


def run_blocks(blocks: ModuleList, x: Tensor, with_cp: bool) -> Tensor:
    """Apply blocks in turn.

    Args:
        blocks: The blocks.
        x: (B, N, D).
        with_cp: Recompute each block's activations in the backward pass
            instead of keeping them: less memory, more time.

    Returns:
        (B, N, D).
    """
    for block in blocks:
        if with_cp and x.requires_grad:
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
    return x
