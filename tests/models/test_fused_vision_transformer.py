# Copyright (c) MotionMAE contributors. All rights reserved.
import pytest
import torch
from mmaction.engine.optimizers import LearningRateDecayOptimizerConstructor
from mmaction.models import Recognizer3D
from mmaction.registry import MODELS
from torch import nn

from mmmotionmae.models import FusedVisionTransformer
from mmmotionmae.models.utils.transformer import (
    CrossAttentionBlock,
    FusedBlock,
    build_blocks,
)

SIZES = dict(
    img_size=16,
    patch_size=8,
    embed_dims=24,
    depth=3,
    num_heads=3,
    num_frames=4,
)


def pair(**kwargs):
    """The stock network and ours, with the same random weights everywhere."""
    stock, fused = (
        MODELS.build(dict(type=name, **SIZES, **kwargs))
        for name in ('VisionTransformer', 'FusedVisionTransformer')
    )
    for parameter in stock.parameters():
        nn.init.normal_(parameter, std=0.3)
    fused.load_state_dict(stock.state_dict())
    return stock, fused


def outputs_and_gradients(network, clip):
    network.zero_grad()
    torch.manual_seed(1)  # which paths are dropped
    output = network(clip)
    output.square().sum().backward()
    return [output, *(p.grad for p in network.parameters())]


@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        dict(use_mean_pooling=False),
        dict(init_values=0.5, drop_path_rate=0.4),
        dict(qkv_bias=False, qk_scale=0.7, use_learnable_pos_emb=True),
        dict(return_feat_map=True),
        dict(drop_rate=0.3),
    ],
)
def test_equals_the_stock_transformer(kwargs):
    stock, fused = pair(**kwargs)
    clip = torch.randn(3, 3, 4, 16, 16)
    for expected, found in zip(
        outputs_and_gradients(stock, clip),
        outputs_and_gradients(fused, clip),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_attention_is_dropped_in_training_only():
    stock, fused = pair(attn_drop_rate=0.5)
    clip = torch.randn(2, 3, 4, 16, 16)
    assert not torch.equal(fused(clip), fused(clip))
    torch.testing.assert_close(
        fused.eval()(clip), stock.eval()(clip), rtol=1e-4, atol=1e-5
    )


def recognizer(name):
    return MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=dict(type=name, **SIZES),
            cls_head=dict(
                type='TimeSformerHead', num_classes=5, in_channels=24
            ),
        )
    )


def test_layer_decay_gives_the_same_groups():
    groups = {}
    for name in ('VisionTransformer', 'FusedVisionTransformer'):
        model = recognizer(name)
        assert isinstance(model, Recognizer3D)
        construct = LearningRateDecayOptimizerConstructor(
            dict(
                type='OptimWrapper',
                optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            ),
            dict(num_layers=3, decay_rate=0.5),
        )
        groups[name] = [
            (g['lr'], g['weight_decay'], g['param_names'])
            for g in construct(model).optimizer.param_groups
        ]
    assert groups['VisionTransformer'] == groups['FusedVisionTransformer']
    assert len({lr for lr, _, _ in groups['VisionTransformer']}) == 5


def test_same_keys_in_the_same_order():
    stock, fused = pair()
    assert isinstance(fused, FusedVisionTransformer)
    assert list(stock.state_dict()) == list(fused.state_dict())


def test_layers_put_in_place_of_ours_are_called():
    _, fused = pair()

    class Adapter(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    block = fused.blocks[0]
    x = torch.randn(2, 8, 24)
    before = block(x)
    second = block.mlp.layers[1]
    adapter = Adapter(second.in_features, second.out_features)
    adapter.load_state_dict(second.state_dict())
    block.mlp.layers[1] = adapter
    torch.testing.assert_close(block(x), before + 1)


@pytest.mark.parametrize('num_queries', [1, 5, 8])
def test_only_the_last_tokens(num_queries):
    block = build_blocks(1, 24, 3, 4.0)[0]
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 8, 24)
    assert isinstance(block, FusedBlock)
    torch.testing.assert_close(
        block(x, num_queries), block(x)[:, -num_queries:]
    )


def test_cross_attention_block_equals_pytorchs():
    """`nn.MultiheadAttention` with another width of keys and values."""
    block = CrossAttentionBlock(
        embed_dims=12, latent_dims=20, num_heads=2, mlp_ratio=2.0
    )
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    reference = nn.MultiheadAttention(
        12, 2, kdim=20, vdim=20, batch_first=True
    )
    attn = block.attn
    weight_k, weight_v = attn.kv.weight.chunk(2)
    reference.q_proj_weight.data = attn.q.weight.data
    reference.k_proj_weight.data = weight_k.data
    reference.v_proj_weight.data = weight_v.data
    reference.in_proj_bias.data = torch.cat((attn.q.bias, attn.kv.bias)).data
    reference.out_proj.load_state_dict(attn.proj.state_dict())
    x, latent = torch.randn(3, 7, 12), torch.randn(3, 4, 20)
    attended, _ = reference(block.norm1(x), latent, latent)
    expected = x + attended
    first, second = block.mlp.layers[0][0], block.mlp.layers[1]
    hidden = nn.functional.gelu(
        block.norm2(expected) @ first.weight.t() + first.bias
    )
    expected = expected + hidden @ second.weight.t() + second.bias
    torch.testing.assert_close(
        block(x, latent), expected, rtol=1e-4, atol=1e-5
    )
