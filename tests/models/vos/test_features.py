# Copyright (c) MotionMAE contributors. All rights reserved.
"""Against the stock transformer, one frame after the other."""

import copy

import numpy as np
import pytest
import torch
from conftest import TINY_BACKBONE
from einops import rearrange
from mmaction.registry import MODELS

from mmmotionmae.models.vos.features import MapFeatures, ViTFeatures

SIZES = [(32, 32), (40, 56)]  # as trained, and others
DEPTH = 3
CLOSE = dict(rtol=1e-5, atol=2e-5)

pytestmark = pytest.mark.usefixtures('_no_gradients')


@pytest.fixture
def _no_gradients():
    with torch.no_grad():
        yield


def build_pair(type='VisionTransformer', **changes):  # noqa: A002
    """An encoder, and a stock one that gives all its tokens as a map."""
    cfg = copy.deepcopy(TINY_BACKBONE) | dict(depth=DEPTH) | changes
    if type != 'MotionMAEViT':
        cfg.setdefault('use_mean_pooling', False)
    vit = MODELS.build(cfg | dict(type=type))
    for parameter in vit.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, std=0.2)
    cfg.setdefault('use_mean_pooling', False)
    stock = MODELS.build(
        cfg | dict(type='VisionTransformer', return_feat_map=True)
    )
    stock.load_state_dict(vit.state_dict())
    return vit.eval(), stock.eval()


def draw_frames(number, size=SIZES[1]):
    return torch.randn(number, 3, *size)


def features_of(vit, frames, frames_per_batch=2, **arguments):
    """(N, D, h, w), by the class that is tested."""
    features = ViTFeatures(vit, frames_per_batch, **arguments)

    def video(numbers):
        return frames[list(numbers)]

    return torch.stack(list(features(video, len(frames))))


def at_positions(stock, table):
    """A copy of the transformer that has this table of positions."""
    stock = copy.deepcopy(stock)
    stock._parameters.pop('pos_embed', None)
    stock._buffers.pop('pos_embed', None)
    stock.register_buffer('pos_embed', table)
    return stock


def at_slot(stock, slot):
    """A copy for a single tubelet, at this slot."""
    rows, columns = stock.grid_size
    table = stock.pos_embed.unflatten(1, (-1, rows * columns))
    return at_positions(stock, table[:, slot])


def tubelet(frames, numbers):
    """A clip of these frames; the outer ones are repeated."""
    last = len(frames) - 1
    chosen = [frames[min(max(number, 0), last)] for number in numbers]
    return torch.stack(chosen, 1)[None]


def expect_repeat(stock, frames, slot=0, tubelet_size=2):
    single = at_slot(stock, slot)
    return torch.stack(
        [
            single(tubelet(frames, [number] * tubelet_size))[0, :, 0]
            for number in range(len(frames))
        ]
    )


def expect_window(stock, frames, num_frames, tubelet_size=2):
    """``stock`` has the positions of ``num_frames`` frames."""
    result = []
    for number in range(len(frames)):
        begin = number // num_frames * num_frames
        slot, delay = divmod(number - begin, tubelet_size)
        start = begin + delay - tubelet_size + 1
        # The frame is the last one of its tubelet.
        assert start + (slot + 1) * tubelet_size - 1 == number
        clip = tubelet(frames, range(start, start + num_frames))
        result.append(stock(clip)[0, :, slot])
    return torch.stack(result)


def is_informative(features):
    """Whether frames, and places of a frame, differ."""
    return features.std(0).median() > 0.01 and (
        features.flatten(2).std(2).median() > 0.01
    )


# How a frame becomes a tubelet


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(
    'encoder',
    ['VisionTransformer', 'FusedVisionTransformer', 'MotionMAEViT'],
)
def test_repeat(encoder, size):
    vit, stock = build_pair(encoder)
    frames = draw_frames(3, size)
    for slot in (0, 3):
        features = features_of(vit, frames, slot=slot)
        torch.testing.assert_close(
            features, expect_repeat(stock, frames, slot), **CLOSE
        )
        assert is_informative(features)


@pytest.mark.parametrize('size', SIZES)
def test_repeat_is_the_whole_transformer_if_that_has_one_slot(size):
    vit, stock = build_pair(num_frames=2)
    frames = draw_frames(2, size)
    clips = torch.stack([frames, frames], 2)
    torch.testing.assert_close(
        features_of(vit, frames), stock(clips)[:, :, 0], **CLOSE
    )


@pytest.mark.parametrize('tubelet_size', [1, 2, 3])
def test_pair(tubelet_size):
    vit, stock = build_pair(num_frames=6, tubelet_size=tubelet_size)
    frames = draw_frames(5)
    features = features_of(vit, frames, temporal='pair', slot=1)
    single = at_slot(stock, 1)
    for number, feature in enumerate(features):
        past = range(number - tubelet_size + 1, number + 1)
        torch.testing.assert_close(
            feature, single(tubelet(frames, past))[0, :, 0], **CLOSE
        )
    assert is_informative(features)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('length', [1, 5, 8, 19])
def test_window(length, size):
    """Shorter than the window, as long, and longer."""
    vit, stock = build_pair()
    frames = draw_frames(length, size)
    torch.testing.assert_close(
        features_of(vit, frames, temporal='window'),
        expect_window(stock, frames, 8),
        **CLOSE,
    )


@pytest.mark.parametrize('num_frames, tubelet_size', [(6, 3), (4, 1)])
def test_window_of_other_tubelets(num_frames, tubelet_size):
    vit, stock = build_pair(num_frames=num_frames, tubelet_size=tubelet_size)
    frames = draw_frames(num_frames + 3)
    torch.testing.assert_close(
        features_of(vit, frames, temporal='window'),
        expect_window(stock, frames, num_frames, tubelet_size),
        **CLOSE,
    )


@pytest.mark.parametrize('num_frames', [2, 6, 12])
def test_window_of_another_length_has_positions_between(num_frames):
    vit, stock = build_pair()  # 4 slots
    frames = draw_frames(7)
    slots = num_frames // 2
    centres = (np.arange(slots) + 0.5) * 4 / slots - 0.5
    columns = stock.pos_embed.reshape(4, -1).numpy().T
    table = np.array([np.interp(centres, range(4), c) for c in columns]).T
    table = torch.from_numpy(table).float().reshape(1, -1, 32)
    features = features_of(
        vit, frames, temporal='window', num_frames=num_frames
    )
    torch.testing.assert_close(
        features,
        expect_window(at_positions(stock, table), frames, num_frames),
        **CLOSE,
    )


def test_frames_know_of_others_as_far_as_promised():
    vit, _ = build_pair()
    frames = draw_frames(5)
    changed = frames.clone()
    changed[3] += 1
    reach = dict(repeat=[3], pair=[3, 4], window=[0, 1, 2, 3, 4])
    for temporal, numbers in reach.items():
        difference = features_of(vit, frames, temporal=temporal) - (
            features_of(vit, changed, temporal=temporal)
        )
        largest = difference.abs().amax((1, 2, 3))
        assert torch.nonzero(largest > 1e-3).flatten().tolist() == numbers


@pytest.mark.parametrize('temporal', ['repeat', 'pair', 'window'])
def test_frames_per_batch_does_not_matter(temporal):
    vit, _ = build_pair()
    frames = draw_frames(5)
    one, three, many = (
        features_of(vit, frames, number, temporal=temporal)
        for number in (1, 3, 100)
    )
    torch.testing.assert_close(one, three, **CLOSE)
    torch.testing.assert_close(one, many, **CLOSE)


def test_only_so_many_frames_are_asked_for_at_a_time():
    vit, _ = build_pair()
    frames, asked = draw_frames(5), []

    def video(numbers):
        asked.append(list(numbers))
        return frames[asked[-1]]

    features = iter(ViTFeatures(vit, 2)(video, 5))
    next(features)
    assert asked == [[0, 1]]  # and no sooner than they are needed
    assert len(list(features)) == 4
    assert asked == [[0, 1], [2, 3], [4]]


# Whose features


@pytest.mark.parametrize('final_norm', [True, False])
@pytest.mark.parametrize('block', [0, 1, 2, -1, -2, -3])
def test_output_of_any_block(block, final_norm):
    vit, stock = build_pair()
    frames = draw_frames(2)
    stock.blocks = stock.blocks[: block % DEPTH + 1]
    if not final_norm:
        stock.norm = torch.nn.Identity()
    torch.testing.assert_close(
        features_of(vit, frames, block=block, final_norm=final_norm),
        expect_repeat(stock, frames),
        **CLOSE,
    )


@pytest.mark.parametrize('encoder', ['VisionTransformer', 'MotionMAEViT'])
def test_other_blocks_may_be_broken(encoder):
    """Those after the one that is asked for are not run."""
    vit, _ = build_pair(encoder)
    frames = draw_frames(2)
    want = features_of(vit, frames, block=1)
    vit.blocks[2].attn.qkv.weight.fill_(torch.nan)
    assert torch.equal(features_of(vit, frames, block=1), want)
    assert features_of(vit, frames).isnan().all()


@pytest.mark.parametrize('final_norm', [True, False])
def test_norm_of_an_encoder_with_mean_pooling(final_norm):
    vit, stock = build_pair(use_mean_pooling=True)
    frames = draw_frames(2)
    want = expect_repeat(stock, frames)  # without any norm
    if final_norm:
        want = stock.fc_norm(want.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(
        features_of(vit, frames, final_norm=final_norm), want, **CLOSE
    )


@pytest.mark.parametrize('qkv_bias', [True, False])
@pytest.mark.parametrize('block', [0, -1])
def test_facets_are_those_of_the_attention(block, qkv_bias):
    vit, stock = build_pair(qkv_bias=qkv_bias)
    frames = draw_frames(2)
    single, caught = at_slot(stock, 0), []
    attention = single.blocks[block].attn
    attention.register_forward_hook(
        lambda module, args, output: caught.append((args[0], output))
    )
    single(torch.stack([frames, frames], 2))
    ((tokens, attended),) = caught
    q, k, v = (
        rearrange(
            features_of(vit, frames, block=block, facet=facet),
            'b d h w -> b (h w) d',
        )
        for facet in ('query', 'key', 'value')
    )
    # Keys have no bias, which attention would not show.
    torch.testing.assert_close(
        k, tokens @ attention.qkv.weight[32:64].T, **CLOSE
    )
    heads = [
        rearrange(x, 'b n (heads d) -> b heads n d', heads=2)
        for x in (q, k, v)
    ]
    weights = (heads[0] @ heads[1].mT / 16**0.5).softmax(-1)
    result = rearrange(weights @ heads[2], 'b heads n d -> b n (heads d)')
    torch.testing.assert_close(attention.proj(result), attended, **CLOSE)


def test_learnt_positions():
    vit, stock = build_pair(use_learnable_pos_emb=True)
    frames = draw_frames(5)
    assert isinstance(vit.pos_embed, torch.nn.Parameter)
    torch.testing.assert_close(
        features_of(vit, frames, slot=2),
        expect_repeat(stock, frames, 2),
        **CLOSE,
    )
    torch.testing.assert_close(
        features_of(vit, frames, temporal='window'),
        expect_window(stock, frames, 8),
        **CLOSE,
    )


def test_encoder_and_sizes_may_change_in_between():
    vit, _ = build_pair(use_learnable_pos_emb=True)
    features = ViTFeatures(vit, 2)
    for size in (*SIZES, SIZES[1], SIZES[0]):
        vit.pos_embed.normal_()
        frames = draw_frames(2, size)
        result = torch.stack(
            list(features(lambda n, frames=frames: frames[list(n)], 2))
        )
        torch.testing.assert_close(result, features_of(vit, frames))


def test_features_lie_in_memory_as_they_are_read():
    vit, _ = build_pair()
    frames = draw_frames(3)
    for temporal in ('repeat', 'window'):
        features = ViTFeatures(vit, 2, temporal=temporal)
        for feature in features(lambda n: frames[list(n)], 3):
            assert feature.shape == (32, 5, 7)
            assert feature.permute(1, 2, 0).is_contiguous()


def test_state_dict_of_the_encoder_stays_as_it_is():
    vit, stock = build_pair()
    ViTFeatures(vit, 1)
    assert list(vit.state_dict()) == list(stock.state_dict())


def test_describe():
    vit, _ = build_pair()
    assert ViTFeatures(vit, 1).describe() == dict(
        backbone='VisionTransformer',
        temporal='repeat',
        slot=0,
        block=2,
        facet='token',
        final_norm=True,
    )
    window = ViTFeatures(vit, 4, 'window', block=-2, facet='key').describe()
    assert window == dict(
        backbone='VisionTransformer',
        temporal='window',
        num_frames=8,
        block=1,
        facet='key',
    )


@pytest.mark.parametrize(
    'bad, message',
    [
        (dict(temporal='mean'), "temporal must be one of .* got 'mean'"),
        (dict(facet='token2'), "facet must be one of .* got 'token2'"),
        (dict(block=3), 'has 3 blocks; there is no block 3'),
        (dict(block=-4), 'no block -4'),
        (dict(slot=4), 'has 4 slots; there is no slot 4'),
        (dict(slot=-1), 'no slot -1'),
        (dict(num_frames=5), 'num_frames is 5, not a multiple of the 2'),
        (dict(num_frames=-2), 'num_frames is -2'),
    ],
)
def test_bad_arguments(bad, message):
    vit, _ = build_pair()
    with pytest.raises(ValueError, match=message):
        ViTFeatures(vit, 1, **bad)


def test_frames_that_are_not_whole_patches():
    vit, _ = build_pair()
    with pytest.raises(ValueError, match='height is 33, not a multiple of 8'):
        features_of(vit, draw_frames(2, (33, 32)))


# Image backbones


def test_maps_of_a_stock_resnet():
    backbone = MODELS.build(
        dict(type='ResNet', depth=18, out_indices=(1, 2), norm_eval=True)
    )
    backbone.eval()
    frames = draw_frames(5, (32, 48))
    features = list(
        MapFeatures(backbone, 2)(lambda n: frames[list(n)], len(frames))
    )
    assert [f.shape for f in features] == [(256, 2, 3)] * 5
    # Layer by layer, the first three of four.
    expected = backbone.maxpool(backbone.conv1(frames))
    for name in ('layer1', 'layer2', 'layer3'):
        expected = getattr(backbone, name)(expected)
    torch.testing.assert_close(torch.stack(features), expected)
    assert is_informative(expected)
    for feature in features:
        assert feature.permute(1, 2, 0).is_contiguous()


def test_maps_of_a_backbone_with_one_output():
    backbone = MODELS.build(dict(type='RawPixels', patch_size=8))
    frames = draw_frames(3, (32, 48))
    features = MapFeatures(backbone, 2)
    assert features.describe() == dict(backbone='RawPixels')
    result = torch.stack(list(features(lambda n: frames[list(n)], 3)))
    assert torch.equal(result, backbone(frames))
