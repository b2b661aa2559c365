# Copyright (c) MotionMAE contributors. All rights reserved.
"""Any block of an encoder: against MMAction2's, and `transformers`."""

import copy

import pytest
import torch
from conftest import TINY_BACKBONE
from einops import rearrange
from mmaction.registry import MODELS

from mmmotionmae.checkpoints import FORMATS, Hints, RawCheckpoint
from mmmotionmae.models.utils.vit_features import (
    embed_clips,
    fuse_stock_blocks,
    number_of_block,
    pool_tokens,
    read_blocks,
    trained_grid,
    tubelet_of,
)

DEPTH = 3
CLOSE = dict(rtol=1e-5, atol=1e-5)
ENCODERS = ['VisionTransformer', 'FusedVisionTransformer', 'MotionMAEViT']


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def build(kind='VisionTransformer', **changes):
    cfg = TINY_BACKBONE | dict(depth=DEPTH) | changes
    vit = MODELS.build(cfg | dict(type=kind)).eval()
    for parameter in vit.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, std=0.2)
    return vit


def as_stock(vit):
    """The same weights in MMAction2's class, which gives a feature map."""
    cfg = TINY_BACKBONE | dict(type='VisionTransformer', depth=DEPTH)
    stock = MODELS.build(
        cfg
        | dict(
            return_feat_map=True,
            use_mean_pooling=getattr(vit, 'fc_norm', None) is not None,
        )
    )
    stock.load_state_dict(vit.state_dict())
    return stock.eval()


def up_to(stock, block):
    """MMAction2's network that ends with this block and has no norm."""
    stock = copy.deepcopy(stock)
    stock.blocks = stock.blocks[: block + 1]
    stock.norm = torch.nn.Identity()
    return stock


@pytest.mark.parametrize('kind', ENCODERS)
@pytest.mark.parametrize('size', [32, 48])
def test_each_block_is_that_of_the_stock_transformer(kind, size):
    vit = build(kind)
    stock = as_stock(vit)
    fuse_stock_blocks(vit)
    clips = torch.randn(2, 3, 8, size, size)
    outputs, grid = read_blocks(vit, clips, (0, 1, 2))
    assert grid == (4, size // 8, size // 8)
    for block in range(DEPTH):
        expected = up_to(stock, block)(clips)  # (B, D, t, h, w)
        torch.testing.assert_close(
            outputs[block],
            rearrange(expected, 'b d t h w -> b (t h w) d'),
            **CLOSE,
        )
        assert outputs[block].std() > 0.1


@pytest.mark.parametrize('kind', ENCODERS[:2])
def test_pooled_last_block_is_what_a_head_sees(kind):
    """The norm of an encoder with mean pooling comes after the mean."""
    model = MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=TINY_BACKBONE | dict(type=kind, depth=DEPTH),
            cls_head=dict(
                type='TimeSformerHead', num_classes=5, in_channels=32
            ),
        )
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    seen = []
    model.cls_head.fc_cls.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    clips = torch.randn(2, 3, 8, 32, 32)
    model(clips[:, None], stage='head')
    outputs, grid = read_blocks(model.backbone, clips, (DEPTH - 1,))
    feature = pool_tokens(model.backbone, outputs[DEPTH - 1], grid)
    torch.testing.assert_close(feature, seen[0], **CLOSE)
    # The other order is another feature.
    other = model.backbone.fc_norm(outputs[DEPTH - 1]).mean(1)
    assert (feature - other).abs().max() > 0.01


def test_bits_of_the_stock_transformer():
    """Without the leaner forward pass, nothing but the embedding differs."""
    vit = build(use_mean_pooling=True)
    clips = torch.randn(2, 3, 8, 32, 32)
    projection = vit.patch_embed.projection
    x = rearrange(projection(clips), 'b d t h w -> b (t h w) d')
    torch.testing.assert_close(
        embed_clips(vit, clips)[0], x + vit.pos_embed, **CLOSE
    )
    for block in vit.blocks:
        x = block(x)
    assert torch.equal(pool_tokens(vit, x, (4, 4, 4)), vit.fc_norm(x.mean(1)))


@pytest.mark.parametrize('late', [False, True])
@pytest.mark.parametrize('final_norm', [False, True])
@pytest.mark.parametrize('pooling', ['mean', 'space', 'time', 'none'])
def test_poolings(pooling, final_norm, late):
    vit = build(use_mean_pooling=late)
    tokens = torch.randn(2, 3 * 4 * 5, 32)

    def norm(x):
        if not final_norm:
            return x
        layer = vit.fc_norm if late else vit.norm
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        return x * layer.weight + layer.bias

    averaged = dict(mean=[2, 1, 0], space=[2, 1], time=[0], none=[])[pooling]
    expected = []
    for clip in tokens if late else norm(tokens):
        grid = clip.reshape(3, 4, 5, 32).double()
        for axis in averaged:
            grid = sum(grid.unbind(axis)) / grid.size(axis)
        expected.append(grid.float())
    expected = torch.stack(expected)
    if late:
        expected = norm(expected)
    torch.testing.assert_close(
        pool_tokens(vit, tokens, (3, 4, 5), pooling, final_norm),
        expected,
        **CLOSE,
    )


def test_clips_longer_than_in_training():
    """Positions between those of the slots, by linear interpolation."""
    vit = build()
    vit.pos_embed = (
        torch.arange(4.0)
        .repeat_interleave(16)[None, :, None]
        .expand(1, 64, 32)
    )
    vit.patch_embed.projection.weight.zero_()
    vit.patch_embed.projection.bias.zero_()
    x, grid = embed_clips(vit, torch.randn(1, 3, 16, 32, 32))
    assert grid == (8, 4, 4)
    slots = x.reshape(8, 16, 32)[:, 0, 0]
    expected = [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    torch.testing.assert_close(slots, torch.tensor(expected))


def test_blocks_after_the_last_one_are_not_run():
    vit = build()
    clips = torch.randn(1, 3, 8, 32, 32)
    want = read_blocks(vit, clips, (0, 1))[0]
    vit.blocks[2].attn.qkv.weight.fill_(torch.nan)
    got = read_blocks(vit, clips, (0, 1))[0]
    assert list(got) == [0, 1]
    assert all(torch.equal(got[i], want[i]) for i in got)


def test_facts_of_an_encoder():
    vit = build(tubelet_size=4)
    assert trained_grid(vit) == (2, 4, 4)
    assert tubelet_of(vit) == (4, 8)
    assert [number_of_block(vit, i) for i in (0, 2, -1, -3)] == [0, 2, 2, 0]


def test_bad_arguments():
    vit = build()
    with pytest.raises(ValueError, match='has 3 blocks; there is no block 3'):
        number_of_block(vit, 3)
    with pytest.raises(ValueError, match="pooling must be .* not 'max'"):
        pool_tokens(vit, torch.zeros(1, 64, 32), (4, 4, 4), 'max')
    with pytest.raises(ValueError, match='height is 33, not a multiple of 8'):
        read_blocks(vit, torch.zeros(1, 3, 8, 33, 33), (0,))


@pytest.mark.parametrize('mean_pooling', [False, True])
def test_hidden_states_of_transformers(mean_pooling):
    transformers = pytest.importorskip('transformers')

    config = transformers.VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=8,
        tubelet_size=2,
        hidden_size=32,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        intermediate_size=128,
        qkv_bias=True,
        layer_norm_eps=1e-6,
        use_mean_pooling=mean_pooling,
        num_labels=5,
    )
    model = transformers.VideoMAEForVideoClassification(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    raw = RawCheckpoint(
        dict(model.named_parameters()), config.to_dict(), 'theirs'
    )
    read = FORMATS['huggingface'].read(raw, Hints()).tensors
    ours = {
        name.removeprefix('backbone.'): tensor
        for name, tensor in read.items()
        if name.startswith('backbone.')
    }
    vit = build('FusedVisionTransformer', use_mean_pooling=mean_pooling)
    vit.load_state_dict(ours)

    clips = torch.randn(2, 3, 8, 32, 32)
    outputs, grid = read_blocks(vit, clips, range(DEPTH))
    pixels = rearrange(clips, 'b c t h w -> b t c h w')
    expected = model(pixels, output_hidden_states=True)
    states = expected.hidden_states
    assert len(states) == DEPTH + 1
    torch.testing.assert_close(embed_clips(vit, clips)[0], states[0], **CLOSE)
    # Their last one may have the final norm, which is compared below.
    last = DEPTH if mean_pooling else DEPTH - 1
    for block in range(last):
        torch.testing.assert_close(
            outputs[block], states[block + 1], rtol=1e-4, atol=1e-4
        )
    tokens = outputs[DEPTH - 1]
    if mean_pooling:
        feature = pool_tokens(vit, tokens, grid)
        logits = model.classifier(feature)
        torch.testing.assert_close(
            logits, expected.logits, rtol=1e-4, atol=1e-4
        )
    else:
        sequence = model.videomae(pixels).last_hidden_state
        feature = pool_tokens(vit, tokens, grid, 'none').flatten(1, 3)
        torch.testing.assert_close(feature, sequence, rtol=1e-4, atol=1e-4)
