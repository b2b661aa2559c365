# Copyright (c) MotionMAE contributors. All rights reserved.
"""Attention over a clip, beside a loop over all tokens and heads."""

import math

import numpy as np
import pytest
import torch
from conftest import TINY_BACKBONE
from mmaction.models.backbones.vit_mae import Attention
from mmaction.registry import MODELS

from mmmotionmae.models.utils.attention_maps import (
    attention_maps,
    attention_weights,
)
from mmmotionmae.utils.errors import UsageError
from mmmotionmae.visualization import attention_rows, heat_map


@pytest.fixture
def vit():
    backbone = MODELS.build(TINY_BACKBONE).eval()
    for name, parameter in backbone.named_parameters():
        if 'bias' in name or 'qkv' in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return backbone


def naive_weights(attention, x):
    """(L, D) to (A, L, L), a query and a key at a time."""
    width = x.shape[1]
    heads = attention.num_heads
    size = width // heads
    weight = attention.qkv.weight
    q = x @ weight[:width].T + attention.q_bias
    k = x @ weight[width : 2 * width].T
    result = torch.zeros(heads, len(x), len(x))
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            scores = [
                float(q[i, part] @ k[j, part]) / math.sqrt(size)
                for j in range(len(x))
            ]
            powers = [math.exp(score - max(scores)) for score in scores]
            result[head, i] = torch.tensor(powers) / sum(powers)
    return result


@torch.no_grad()
def naive_blocks(vit, clip):
    """Weights of each block, mean over its heads: (L, L), float64."""
    x = vit.patch_embed(clip[None])[0] + vit.pos_embed
    found = []
    for block in vit.blocks:
        heads = naive_weights(block.attn, block.norm1(x)[0])
        found.append(heads.double().mean(0).numpy())
        x = block(x)
    return found


def test_weights_are_those_that_the_block_uses(vit):
    """Put to use as MMAction2's attention does, they give its output."""
    stock = Attention(32, num_heads=2, qkv_bias=True)
    torch.nn.init.normal_(stock.q_bias)
    x = torch.randn(2, 9, 32)
    weights = attention_weights(stock, x)
    values = (x @ stock.qkv.weight[64:].T + stock.v_bias).view(2, 9, 2, 16)
    mixed = torch.einsum('baqk,bkad->bqad', weights, values).flatten(2)
    torch.testing.assert_close(stock.proj(mixed), stock(x))
    assert weights.sum(-1).allclose(torch.ones(2, 2, 9))
    found = naive_weights(stock, x[0].detach())
    torch.testing.assert_close(weights[0], found, rtol=1e-4, atol=1e-6)


def test_the_last_block(vit):
    clips = torch.randn(2, 3, 8, 32, 32)
    maps = attention_maps(vit, clips, 'last')
    assert maps.shape == (2, 4, 4, 4)
    for clip, found in zip(clips, maps, strict=True):
        expected = naive_blocks(vit, clip)[-1].mean(0).reshape(4, 4, 4)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_rollout_is_the_product_of_all_blocks(vit):
    clip = torch.randn(3, 8, 32, 32)
    (found,) = attention_maps(vit, clip[None])
    product = np.eye(64)
    for weights in naive_blocks(vit, clip):
        product = (weights + np.eye(64)) / 2 @ product
    expected = product.mean(0).reshape(4, 4, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    assert found.std() > 1e-4  # it tells places apart
    (last,) = attention_maps(vit, clip[None], 'last')
    assert (found - last).abs().max() > 1e-4


def test_an_unknown_kind(vit):
    with pytest.raises(UsageError, match="rollout, last, not 'first'"):
        attention_maps(vit, torch.zeros(1, 3, 8, 32, 32), 'first')


def test_rows():
    attention = torch.arange(8.0).view(2, 2, 2) + 1
    attention /= attention.sum()
    video = torch.full((3, 4, 8, 8), 0.5)
    rows = attention_rows(video, attention)
    assert list(rows) == ['input', 'attention', 'overlay']
    values = (attention / attention.mean()).repeat_interleave(2, 0)
    values = values.repeat_interleave(4, 1).repeat_interleave(4, 2)
    scale = float(values.max())
    np.testing.assert_array_equal(
        rows['attention'].frames, heat_map(values, scale)
    )
    assert rows['attention'].scale == 'black 0, yellow 1.8 times the mean'
    shown = 0.5 * (0.15 + 0.85 * values / scale)
    np.testing.assert_allclose(
        rows['overlay'].frames[..., 0], 255 * shown, atol=0.51
    )
    # Where all is alike, nothing is dark.
    rows = attention_rows(video, torch.full((2, 2, 2), 0.125))
    assert (rows['overlay'].frames == 128).all()
