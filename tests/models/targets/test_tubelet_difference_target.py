# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
import torch
from conftest import as_batch, tube_mask
from einops import rearrange
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper

from mmmotionmae.datasets import moving_shapes
from mmmotionmae.models.utils.tubelet import TokenSplit


def build(**kwargs):
    defaults = dict(
        type='TubeletDifferenceTarget', name='difference', patch_size=4
    )
    return MODELS.build(defaults | kwargs)


def mae_dfer(video, frames_of_tubelet, patch_size):
    """MAE-DFER's target of all tokens, [0, 1] pixels in: (B, L, p0 p1 p2 C).

    From its definition: normalise tubelets, put them together to a video
    again, take from each frame the first of its group, cut tubelets again.
    """
    cut = dict(p0=frames_of_tubelet, p1=patch_size, p2=patch_size)
    places = 'b c (t p0) (h p1) (w p2) -> b t h w c (p0 p1 p2)'
    x = rearrange(video, places, **cut)
    x = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)
    back = 'b t h w c (p0 p1 p2) -> b c (t p0) (h p1) (w p2)'
    normalised = rearrange(x, back, **cut)
    result = normalised.clone()
    for t in range(video.size(2)):
        if t % frames_of_tubelet:
            first = t - t % frames_of_tubelet
            result[:, :, t] = normalised[:, :, t] - normalised[:, :, first]
    tokens = 'b c (t p0) (h p1) (w p2) -> b (t h w) (p0 p1 p2 c)'
    return rearrange(result, tokens, **cut)


@pytest.mark.parametrize('frames', [1, 2, 4])
def test_it_is_the_target_of_mae_dfer(frames):
    video = torch.randint(256, (2, 3, 8, 8, 12), dtype=torch.uint8)
    target = build(tubelet_size=frames)
    index = tube_mask(2, (8 // frames, 2, 3), 4).nonzero()[:, 1].view(2, -1)
    found = target.build(video, index)
    expected = mae_dfer(video.double() / 255, frames, 4)
    expected = expected[torch.arange(2)[:, None], index].float()
    # Theirs are ordered (p0, p1, p2, C), ours (C, p0, p1, p2).
    ours = rearrange(found.values, 'b n c p -> b n (p c)')
    assert ours.size(-1) == target.num_values == 3 * frames * 4 * 4
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        found.sum, expected.sum(-1), rtol=1e-4, atol=1e-3
    )
    torch.testing.assert_close(found.square, expected.square().sum(-1))


def test_not_normalised_it_is_frame_and_difference():
    video = torch.randint(256, (1, 1, 2, 4, 4), dtype=torch.uint8)
    index = torch.zeros(1, 1, dtype=torch.int64)
    target = build(norm='none', channels=1).build(video, index)
    first, second = video[0, 0].float() / 255
    torch.testing.assert_close(
        target.values.view(2, 4, 4), torch.stack((first, second - first))
    )


def test_no_motion_is_zero_whatever_the_norm():
    """Unlike the difference that is normalised itself."""
    frame = torch.randint(256, (1, 3, 1, 8, 8), dtype=torch.uint8)
    video = frame.expand(-1, -1, 4, -1, -1)
    index = torch.arange(8)[None]
    for norm in ('tubelet', 'clip', 'none'):
        values = build(norm=norm).build(video, index).values
        first, difference = values.unflatten(-1, (2, -1)).unbind(-2)
        assert not difference.any() and first.any()


@pytest.mark.parametrize('statistics', ['true', 'visible'])
@pytest.mark.parametrize('norm', ['tubelet', 'clip', 'none'])
@pytest.mark.parametrize('frames', [2, 4])
def test_the_true_target_reconstructs_the_pixels(frames, norm, statistics):
    target = build(norm=norm, tubelet_size=frames)
    video = torch.randint(256, (2, 3, 8, 8, 8), dtype=torch.uint8)
    mask = tube_mask(2, (8 // frames, 2, 2), 3)
    split = TokenSplit(
        (~mask).nonzero()[:, 1].view(2, -1),
        mask.nonzero()[:, 1].view(2, -1),
        mask.size(1),
    )
    pred = target.build(video, split.masked).values.flatten(2)
    copy = pred.clone()
    pixels = target.reconstruct(pred, video, split, statistics)
    assert torch.equal(pred, copy)
    hidden = rearrange(
        mask, 'b (t h w) -> b 1 t h w', t=8 // frames, h=2, w=2
    ).float()
    hidden = torch.nn.functional.interpolate(hidden, (8, 8, 8)).bool()
    off = (pixels - video / 255).abs()
    assert off[~hidden.expand_as(off)].max() < 1e-6
    if statistics == 'true' or norm == 'none':
        assert off.max() < 1e-5
    else:  # of another mean and contrast
        assert 1e-3 < off.max() < 2


def test_overfits_one_batch(tiny_model):
    clips = []
    for i in range(2):
        scene = moving_shapes.sample_scene(
            np.random.default_rng(i), moving_shapes.DIRECTIONS[i]
        )
        frames, _ = moving_shapes.render(scene, num_frames=8, size=32)
        clips.append(torch.from_numpy(frames).permute(3, 0, 1, 2))
    batch = as_batch(torch.stack(clips), tube_mask(2))
    model = tiny_model(
        neck=dict(embed_dims=64, num_heads=4),
        targets=dict(difference=dict(type='TubeletDifferenceTarget')),
    )
    model.init_weights()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-3, betas=(0.9, 0.95)
    )
    wrapper = OptimWrapper(optimizer)
    start = model.train_step(batch, wrapper)
    for _ in range(150):
        log = model.train_step(batch, wrapper)
    assert log['loss_difference'] < 0.2 * start['loss_difference']
    assert log['r2_difference'] > 0.8
    with torch.no_grad():
        samples = model.val_step(batch)
    for clip, sample in zip(batch['inputs'], samples, strict=True):
        off = sample.difference_reconstruction - clip / 255
        assert off.abs().mean() < 0.02
