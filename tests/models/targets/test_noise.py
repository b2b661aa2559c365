# Copyright (c) MotionMAE contributors. All rights reserved.
"""The noise of a sensor, and the norm that has it as its floor."""

import math

import pytest
import torch

from mmmotionmae.models.targets import (
    FlowTarget,
    FrameDifferenceTarget,
    PixelTarget,
    ReconstructionTarget,
    TubeletDifferenceTarget,
)
from mmmotionmae.models.targets.noise import noise_level
from mmmotionmae.models.targets.values import normalise_groups
from mmmotionmae.models.utils.tubelet import split_mask
from mmmotionmae.utils.errors import UsageError

SIZE = dict(name='x', tubelet_size=2, patch_size=8)
FLOOR = dict(SIZE, norm='tubelet-floor')


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def texture(generator, *shape):
    """Random levels from pixel to pixel: the worst that a scene can show."""
    return 60 + 130 * torch.rand(shape, generator=generator)


def record(scene, sigma, generator):
    """What a sensor makes of a scene (B, C, T, H, W): levels, uint8.

    Channel c has a deviation of sigma * (c + 1).
    """
    sigma = sigma * torch.arange(1.0, 4).view(1, 3, 1, 1, 1)
    noise = torch.randn(scene.shape, generator=generator) * sigma
    return (scene + noise).round().clamp(0, 255).byte()


def still(generator, size=64):
    return texture(generator, 2, 3, 1, size, size).expand(2, 3, 8, size, size)


def moving_object(generator):
    """A quarter of the frame is covered by a textured object that moves."""
    scene = still(generator).clone()
    thing = texture(generator, 2, 3, 32, 32)
    for t in range(8):
        scene[:, :, t, 8 + t : 40 + t, 3 * t : 3 * t + 32] = thing
    return scene


def panning(generator):
    """The whole frame moves, and brightness changes, but all is smooth."""
    x = torch.arange(64.0) + 2 * torch.arange(8.0)[:, None, None]
    y = torch.arange(64.0)[:, None]
    wave = 60 * torch.sin(x / 12) + 40 * torch.cos(y / 15)
    flicker = 5 * torch.arange(8.0)[:, None, None]
    return (100 + wave + flicker).expand(2, 3, 8, 64, 64)


def with_rounding(sigma):
    """The deviation of each channel of :func:`record`."""
    sigma = sigma * torch.arange(1.0, 4)
    return (sigma**2 + 1 / 12).sqrt().view(1, 1, 3, 1) / 255


@pytest.mark.parametrize('sigma', [0.2, 0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize(
    ('scene', 'tolerance'),
    [(still, 0.05), (panning, 0.05), (moving_object, 0.25)],
)
def test_known_noise_is_found(generator, scene, tolerance, sigma):
    """Of frames, and root of two times as much of their differences.

    Noise well below a level is not what rounding makes of it.
    """
    tolerance = max(tolerance, 0.15 * (sigma < 0.5))
    clip = record(scene(generator), sigma, generator)
    expected = with_rounding(sigma).expand(2, 1, 3, 1)
    found = PixelTarget(**FLOOR).noise(clip)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)
    target = FrameDifferenceTarget(**FLOOR)
    motion = target.noise(target.video(clip))
    torch.testing.assert_close(motion, found * 2**0.5)


@pytest.mark.parametrize('first', ['repeat', 'zero'])
def test_frames_that_are_no_differences_do_not_count(generator, first):
    clip = record(still(generator), 3.0, generator)[:, :, :4]
    target = FrameDifferenceTarget(**FLOOR, gap=2, first=first)
    found = target.noise(target.video(clip))
    expected = with_rounding(3.0).expand_as(found) * 2**0.5
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


def test_noise_of_pooled_values(generator):
    """The mean of n pixels has a root of n-th of their noise."""
    clip = record(still(generator, 128), 3.0, generator)
    expected = with_rounding(3.0).expand(2, 1, 3, 1) / 4
    for cls, factor in (PixelTarget, 1), (FrameDifferenceTarget, 2**0.5):
        target = cls(**FLOOR, pool=4)
        found = target.noise(target.video(clip))
        torch.testing.assert_close(found, expected * factor, rtol=0.1, atol=0)


def test_noise_of_floats_and_many_samples(generator):
    video = 0.01 * torch.randn(1, 2, 3, 300, 310, generator=generator)
    found = noise_level(video)
    assert found.shape == (1, 1, 2, 1)
    torch.testing.assert_close(
        found, torch.full_like(found, 0.01), rtol=0.02, atol=0
    )


def test_without_noise_rounding_is_left():
    clip = torch.full((1, 3, 4, 16, 16), 77, dtype=torch.uint8)
    rounding = 1 / math.sqrt(12) / 255
    found = PixelTarget(**FLOOR).noise(clip)
    torch.testing.assert_close(found, torch.full_like(found, rounding))
    found = PixelTarget(**FLOOR, pool=4).noise(clip)
    torch.testing.assert_close(found, torch.full_like(found, rounding / 4))
    assert noise_level(clip.float()).eq(0).all()


def naive(values, noise):
    """(B, N, G, P) normalised by loops, in float64."""
    result = values.double().clone()
    for b, n, g in torch.cartesian_prod(*map(torch.arange, values.shape[:3])):
        x = values[b, n, g].double()
        floor = noise[b, 0, g, 0].item()
        deviation = math.sqrt(x.var().item() + floor**2) + 1e-6
        result[b, n, g] = (x - x.mean()) / deviation
    return result.float()


@pytest.mark.parametrize(
    'target',
    [
        PixelTarget(**FLOOR),
        FrameDifferenceTarget(**FLOOR),
        FrameDifferenceTarget(**FLOOR, pool=2, mode='absolute'),
    ],
)
def test_values_equal_loops(generator, target):
    clip = record(moving_object(generator), 2.0, generator)[..., :24, :24]
    video = target.video(clip)
    index = torch.tensor([[0, 5, 35], [7, 8, 30]])
    plain = type(target)(**SIZE, norm='none', pool=target.pool)
    if isinstance(target, FrameDifferenceTarget):
        plain.mode = target.mode
    raw = plain.build(video, index)
    found = target.build(video, index)
    expected = naive(raw.values, target.noise(video))
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        found.values * found.std + found.mean, raw.values, rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(found.rms, raw.rms)
    flat = found.values.flatten(2)
    torch.testing.assert_close(found.square, flat.square().sum(-1))
    torch.testing.assert_close(found.sum, flat.sum(-1), rtol=0, atol=1e-3)


def test_what_moves_keeps_its_size_and_noise_does_not(generator):
    """Noise: half the variance. Motion: nearly all. Flat: nearly none."""
    scene = torch.full((1, 3, 8, 64, 64), 90.0)
    scene[..., 32:, :32] = texture(generator, 1, 3, 8, 32, 32)
    clip = record(scene, 2.0, generator)
    # Like the copied blocks of a codec: nothing changes at all.
    clip[:, :, :, :16, 56:] = 90
    target = FrameDifferenceTarget(**FLOOR)
    video = target.video(clip)
    index = torch.arange(4 * 64)[None]
    variance = target.build(video, index).values.var(-1).mean(-1)
    variance = variance.view(4, 8, 8)
    still, moves, copied = (
        variance[:, 4:, 4:].mean(),
        variance[:, 4:, :4].mean(),
        variance[:, :2, 7:],
    )
    assert still.item() == pytest.approx(0.5, abs=0.03)
    assert 0.98 < moves < 1
    assert copied.eq(0).all()


def test_no_noise_is_the_norm_of_tubelets():
    values = torch.randint(-255, 256, (2, 3, 3, 32), dtype=torch.int16)
    plain = normalise_groups(values)
    zero = normalise_groups(values, torch.zeros(2, 1, 3, 1))
    for one, other in zip(plain, zero, strict=True):
        assert torch.equal(one, other)


def test_of_a_reference_the_noise_counts(generator):
    clip = record(still(generator), 3.0, generator)
    target = PixelTarget(**FLOOR)
    index = torch.tensor([[1, 2], [3, 4]])
    smooth = panning(generator).round().byte()
    found = target.build(smooth, index, reference=clip)
    values = target.select(smooth, index)
    expected = normalise_groups(values, target.noise(clip))
    assert torch.equal(found.values, expected.values)
    assert not torch.equal(found.values, target.build(smooth, index).values)


def test_a_prediction_is_put_back(generator):
    """The true values, predicted, give the true video."""
    clip = record(moving_object(generator), 2.0, generator)
    split = _split()
    for cls in PixelTarget, FrameDifferenceTarget, TubeletDifferenceTarget:
        target = cls(**FLOOR)
        video = target.video(clip)
        pred = target.build(video, split.masked).values.flatten(2)
        found = target.reconstruct(pred, video, split)
        torch.testing.assert_close(found, video / 255, rtol=0, atol=1e-5)
        guess = target.reconstruct(pred, video, split, 'visible')
        assert guess.isfinite().all()
        assert not torch.allclose(guess, found)


def _split():
    mask = torch.zeros(2, 4, 64, dtype=torch.bool)
    mask[:, :, ::3] = True
    return split_mask(mask.flatten(1))


def test_a_floor_that_is_given(generator):
    clip = record(still(generator), 3.0, generator)
    target = PixelTarget(**FLOOR, floor=0.05)
    index = torch.tensor([[1, 2], [3, 4]])
    found = target.build(clip, index)
    noise = torch.full((2, 1, 3, 1), 0.05)
    raw = PixelTarget(**SIZE, norm='none').build(clip, index).values
    expected = naive(raw, noise)
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-5)
    for norm, floor in ('tubelet', 0.1), ('tubelet-floor', -0.1):
        with pytest.raises(UsageError, match="floor of target 'x' must not"):
            PixelTarget(**SIZE, norm=norm, floor=floor)


def test_flow_has_noise_as_well(generator):
    flow = 0.3 * torch.randn(1, 2, 4, 64, 64, generator=generator)
    found = FlowTarget(**FLOOR).noise(flow + 5)
    torch.testing.assert_close(
        found, torch.full_like(found, 0.3), rtol=0.05, atol=0
    )


def test_clips_without_a_difference_are_refused():
    small = torch.zeros(1, 3, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(UsageError, match='at least two frames of 3x3'):
        PixelTarget(**FLOOR).noise(small)
    small = torch.zeros(1, 3, 4, 8, 8, dtype=torch.uint8)
    with pytest.raises(UsageError, match='what pooling leaves'):
        PixelTarget(**FLOOR, pool=4).noise(small)
    with pytest.raises(NotImplementedError):
        ReconstructionTarget(**FLOOR).noise(small)
