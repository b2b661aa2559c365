# Copyright (c) MotionMAE contributors. All rights reserved.
import pytest
import torch
from conftest import tube_mask
from mmaction.models.backbones.vit_mae import Block, get_sinusoid_encoding
from mmaction.registry import MODELS
from torch import nn

from mmmotionmae.models import MotionMAEDecoder
from mmmotionmae.models.utils.tubelet import split_mask

NETWORK_KEYS = [
    'mask_token',
    'pos_embed',
    'embed.weight',
    'blocks.0.norm1.weight',
    'blocks.0.norm1.bias',
    'blocks.0.attn.q_bias',
    'blocks.0.attn.v_bias',
    'blocks.0.attn.qkv.weight',
    'blocks.0.attn.proj.weight',
    'blocks.0.attn.proj.bias',
    'blocks.0.norm2.weight',
    'blocks.0.norm2.bias',
    'blocks.0.mlp.layers.0.0.weight',
    'blocks.0.mlp.layers.0.0.bias',
    'blocks.0.mlp.layers.1.weight',
    'blocks.0.mlp.layers.1.bias',
    'norm.weight',
    'norm.bias',
]


def build(**kwargs):
    """A small decoder with random weights everywhere."""
    cfg = dict(
        type='MotionMAEDecoder',
        num_tokens=64,
        in_channels=10,
        embed_dims=12,
        depth=1,
        num_heads=2,
    )
    decoder = MODELS.build(cfg | kwargs)
    for parameter in decoder.parameters():  # biases and norms too
        nn.init.normal_(parameter, std=0.3)
    return decoder.eval()


def inputs():
    """Latents, and other masks in the two clips."""
    mask = tube_mask(2)
    assert not torch.equal(mask[0], mask[1])
    return torch.randn(2, 16, 10), split_mask(mask)


def in_original_order(network, depth, latent, split):
    """Scatter all tokens to their places, then stock blocks, one clip each."""
    blocks = nn.ModuleList(Block(12, 2) for _ in range(depth))
    blocks.load_state_dict(network.blocks.state_dict())
    position = get_sinusoid_encoding(64, 12)[0]
    clips = []
    for b in range(len(latent)):
        tokens = network.mask_token[0].repeat(64, 1)
        tokens[split.visible[b]] = latent[b] @ network.embed.weight.T
        x = (tokens + position)[None]
        for block in blocks:
            x = block(x)
        clips.append(network.norm(x)[0][split.masked[b]])
    return torch.stack(clips)


@pytest.mark.parametrize('sharing', ['shared', 'independent'])
@pytest.mark.parametrize('depth', [1, 3])
def test_equals_decoding_in_the_original_order(sharing, depth):
    decoder = build(sharing=sharing, depth=depth)
    latent, split = inputs()
    with torch.no_grad():
        tokens = decoder(latent, split)
        assert list(tokens) == ['pixel', 'motion']
        for name in tokens:
            network = decoder.decoders[
                'shared' if sharing == 'shared' else name
            ]
            expected = in_original_order(network, depth, latent, split)
            assert expected.std(1).median() > 1e-2
            torch.testing.assert_close(
                tokens[name], expected, rtol=1e-5, atol=1e-5
            )


def test_shared_gives_both_targets_the_same_tensor():
    tokens = build(sharing='shared')(*inputs())
    assert tokens['pixel'] is tokens['motion']


def test_independent_networks_share_nothing():
    decoder = build(sharing='independent')
    pixel, motion = (
        {id(p) for p in decoder.decoders[name].parameters()}
        for name in ('pixel', 'motion')
    )
    assert len(pixel) == len(motion) == len(NETWORK_KEYS) - 1  # pos_embed
    assert pixel.isdisjoint(motion)
    assert pixel | motion == {id(p) for p in decoder.parameters()}
    tokens = decoder(*inputs())
    assert (tokens['pixel'] - tokens['motion']).abs().mean() > 0.1
    # No gradient goes from one target to the other's network.
    tokens['motion'].square().sum().backward()
    for parameter in decoder.decoders['pixel'].parameters():
        assert parameter.grad is None
    for name, parameter in decoder.decoders['motion'].named_parameters():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ('sharing', 'names'),
    [('shared', ['shared']), ('independent', ['pixel', 'motion'])],
)
def test_keys_of_the_state_dict(sharing, names):
    """Checkpoints depend on these names; to change them is to break them."""
    assert list(build(sharing=sharing).state_dict()) == [
        f'decoders.{name}.{key}' for name in names for key in NETWORK_KEYS
    ]


def test_independent_with_one_target_has_one_network(tiny_model):
    model = tiny_model(
        neck=dict(sharing='independent'),
        head=dict(type='MotionMAEHead', motion_weight=0.0),
    )
    assert list(model.neck.decoders) == ['pixel']
    tokens = build(sharing='independent', targets=('motion',))(*inputs())
    assert list(tokens) == ['motion']


def test_activation_checkpointing_changes_no_gradient():
    decoder = build(sharing='independent', depth=2)
    saving = build(sharing='independent', depth=2, with_cp=True)
    saving.load_state_dict(decoder.state_dict())
    latent, split = inputs()
    for module in (decoder, saving):
        for tokens in module(latent, split).values():
            tokens.square().sum().backward()
    for (name, p), q in zip(
        decoder.named_parameters(), saving.parameters(), strict=True
    ):
        assert p.grad.abs().max() > 0, name
        torch.testing.assert_close(p.grad, q.grad, msg=name)


def test_initialisation_as_in_videomae():
    decoder = MotionMAEDecoder(num_tokens=1568, in_channels=768)
    decoder.init_weights()
    network = decoder.decoders['shared']
    assert 0.01 < network.mask_token.std() < 0.03
    fan = network.embed.in_features + network.embed.out_features
    bound = (6 / fan) ** 0.5
    assert network.embed.weight.abs().max() <= bound
    assert network.embed.weight.std().item() == pytest.approx(
        bound / 3**0.5, rel=0.02
    )
    assert not network.blocks[0].mlp.layers[1].bias.any()


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(sharing='both'), 'sharing must be'),
        (dict(attention='both'), 'attention must be'),
        (dict(depth=0), 'no blocks'),
        (dict(targets=()), 'targets must be'),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_with_cross_attention_masked_tokens_do_not_see_each_other():
    decoder = build(attention='cross', depth=2)
    latent, split = inputs()
    whole = decoder(latent, split)['pixel']
    assert whole.shape == (2, 48, 12)
    fewer = decoder(latent, split._replace(masked=split.masked[:, 5:9]))
    torch.testing.assert_close(fewer['pixel'], whole[:, 5:9])
    changed = decoder(latent + 1, split)['pixel']
    assert not torch.isclose(changed, whole).any(-1).all()


def test_cross_attention_in_closed_form():
    """With no weights in the blocks, what is left is token and position."""
    decoder = build(attention='cross', depth=2)
    network = decoder.decoders['shared']
    for block in network.blocks:
        for parameter in block.parameters():
            nn.init.zeros_(parameter)
    latent, split = inputs()
    position = get_sinusoid_encoding(64, 12)[0]
    expected = network.norm(network.mask_token[0] + position[split.masked])
    torch.testing.assert_close(decoder(latent, split)['pixel'], expected)


def test_keys_with_cross_attention():
    decoder = build(attention='cross')
    keys = {
        key.removeprefix('decoders.shared.')
        for key in decoder.state_dict()
        if 'attn' in key or 'embed' in key
    }
    assert keys == {
        'pos_embed',
        *(
            f'blocks.0.attn.{name}.{kind}'
            for name in ('q', 'kv', 'proj')
            for kind in ('weight', 'bias')
        ),
    }
