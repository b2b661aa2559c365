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


# ------------------------------------------------------------------- frozen


def recognizer_with(frozen_stages, **backbone):
    return MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=dict(
                type='FusedVisionTransformer',
                frozen_stages=frozen_stages,
                **(SIZES | backbone),
            ),
            cls_head=dict(
                type='TimeSformerHead', num_classes=5, in_channels=24
            ),
        )
    )


def saved_bytes(network, clip):
    """What the backward pass keeps, without the parameters themselves."""
    own = {parameter.data_ptr() for parameter in network.parameters()}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # else its place may be taken by another
        return tensor

    kept = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        network(clip)
    return sum(storages.values())


FROZEN = {
    -1: set(),
    0: {'patch_embed', 'pos_embed'},
    2: {'patch_embed', 'pos_embed', 'blocks.0', 'blocks.1'},
    3: {
        'patch_embed',
        'pos_embed',
        'blocks.0',
        'blocks.1',
        'blocks.2',
        'norm',
        'fc_norm',
    },
}


@pytest.mark.parametrize('use_mean_pooling', [True, False])
@pytest.mark.parametrize('stages', FROZEN)
def test_what_is_frozen(stages, use_mean_pooling):
    network = MODELS.build(
        dict(
            type='FusedVisionTransformer',
            frozen_stages=stages,
            use_mean_pooling=use_mean_pooling,
            use_learnable_pos_emb=True,
            drop_path_rate=0.5,
            drop_rate=0.5,
            **SIZES,
        )
    )
    for mode in (True, False, True):
        network.train(mode)
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {
        name
        for name, _ in network.named_parameters()
        if name.startswith(tuple(FROZEN[stages]))
    }
    # The modes of the modules that act differently in training.
    modes = {
        name: module.training
        for name, module in network.named_modules()
        if type(module).__name__ in ('Dropout', 'DropPath')
    }
    assert modes['pos_drop'] == (stages < 0)
    for number in range(3):
        of_block = f'blocks.{number}.'
        assert {m for n, m in modes.items() if n.startswith(of_block)} == {
            number >= stages
        }


def test_frozen_layers_draw_nothing_and_change_nothing():
    stock, fused = pair(drop_path_rate=0.5, drop_rate=0.5)
    frozen = MODELS.build(
        dict(
            type='FusedVisionTransformer',
            frozen_stages=3,
            drop_path_rate=0.5,
            drop_rate=0.5,
            **SIZES,
        )
    )
    frozen.load_state_dict(fused.state_dict())
    assert list(frozen.state_dict()) == list(stock.state_dict())
    clip = torch.randn(2, 3, 4, 16, 16)
    torch.testing.assert_close(
        frozen.train()(clip), stock.eval()(clip), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize('stages', [-1, 0, 2, 3])
def test_gradients_of_the_others_are_the_same(stages):
    _, free = pair()
    frozen = recognizer_with(stages).backbone
    frozen.load_state_dict(free.state_dict())
    clip = torch.randn(2, 3, 4, 16, 16)
    for network in (free, frozen):
        output = network(clip).square().sum()
        if output.requires_grad:
            output.backward()
    expected = dict(free.named_parameters())
    for name, parameter in frozen.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter.grad, expected[name].grad)
        else:
            assert parameter.grad is None


def test_nothing_of_frozen_layers_is_kept():
    clip = torch.randn(2, 3, 4, 16, 16)
    kept = {
        stages: saved_bytes(recognizer_with(stages).backbone, clip)
        for stages in (-1, 0, 1, 2, 3)
    }
    assert kept[3] == 0
    # Each block keeps as much as the next.
    assert kept[0] - kept[1] == kept[1] - kept[2] > 0
    # The patch embedding keeps the clip.
    assert kept[-1] - kept[0] == clip.nbytes


def test_layer_decay_leaves_frozen_layers_out():
    groups = {}
    for stages in (-1, 2):
        construct = LearningRateDecayOptimizerConstructor(
            dict(
                type='OptimWrapper',
                optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            ),
            dict(num_layers=3, decay_rate=0.5),
        )
        model = recognizer_with(stages)
        groups[stages] = {
            name: (group['lr'], group['weight_decay'])
            for group in construct(model).optimizer.param_groups
            for name in group['param_names']
        }
    assert groups[2] == {
        name: group
        for name, group in groups[-1].items()
        if not name.startswith(
            ('backbone.patch_embed', 'backbone.blocks.0', 'backbone.blocks.1')
        )
    }


def test_a_frozen_encoder_takes_a_pretraining_checkpoint(tmp_path):
    source = MODELS.build(dict(type='MotionMAEViT', **SIZES))
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    checkpoint = tmp_path / 'epoch_1.pth'
    state = {f'backbone.{k}': v for k, v in source.state_dict().items()}
    torch.save(
        dict(state_dict=state | {'neck.mask_token': torch.ones(3)}), checkpoint
    )
    model = recognizer_with(
        3,
        use_mean_pooling=False,
        init_cfg=dict(
            type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.'
        ),
    )
    model.init_weights()
    found = model.backbone.state_dict()
    assert list(found) == list(source.state_dict())
    for name, expected in source.state_dict().items():
        assert torch.equal(found[name], expected), name


@pytest.mark.parametrize('stages', [-2, 4])
def test_more_frozen_stages_than_there_are(stages):
    with pytest.raises(ValueError, match=f'3 blocks.*not {stages}'):
        recognizer_with(stages)
