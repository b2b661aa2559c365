# Copyright (c) MotionMAE contributors. All rights reserved.
"""Interpolation in time, as a prediction."""

import pytest
import torch

from mmmotionmae.datasets.transforms.masking import (
    FrameMasking,
    RandomMasking,
    TubeMasking,
)
from mmmotionmae.models.targets import (
    FlowTarget,
    FrameDifferenceTarget,
    HOGTarget,
    PixelTarget,
    ReconstructionTarget,
    interpolate_target,
)
from mmmotionmae.models.utils.time_interpolation import interpolate_in_time
from mmmotionmae.models.utils.tubelet import split_mask

SIZE = dict(tubelet_size=2, patch_size=8)
GRID = (5, 3, 2)  # of clips of 10 frames, 24x16
MASKINGS = (TubeMasking, RandomMasking, FrameMasking)


def draw_masks(masking, ratio=0.6):
    drawn = [masking(ratio, 8, 2).sample(GRID).reshape(-1) for _ in range(2)]
    return torch.stack([torch.from_numpy(x.copy()) for x in drawn])


def naive_fill(clip, mask):
    """Clip by clip, place by place, frame by frame."""
    result = clip.clone()
    for b, shown in enumerate(~mask.view(-1, *GRID)):
        tubelets = [
            clip[(b, *place(t, y, x))].flatten(1)
            for t, y, x in shown.nonzero().tolist()
        ]
        mean = torch.cat(tubelets, 1).mean(1)[:, None, None]
        for y in range(GRID[1]):
            for x in range(GRID[2]):
                slots = shown[:, y, x].nonzero().flatten().tolist()
                known = [2 * t + i for t in slots for i in (0, 1)]
                line = clip[(b, *place(slice(None), y, x))]
                for t in range(clip.size(2)):
                    filled = at(line.unbind(1), t, known, mean)
                    result[b, :, t, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = (
                        filled
                    )
    return result


def place(t, y, x):
    """Of a tubelet, or of a column of them, in (C, T, H, W)."""
    if isinstance(t, int):
        t = slice(2 * t, 2 * t + 2)
    return (
        slice(None),
        t,
        slice(8 * y, 8 * y + 8),
        slice(8 * x, 8 * x + 8),
    )


def at(line, t, known, mean):
    if not known:
        return mean
    before = [k for k in known if k <= t]
    after = [k for k in known if k >= t]
    if not before or not after:
        return line[after[0] if after else before[-1]]
    first, last = before[-1], after[0]
    if first == last:
        return line[t]
    share = (t - first) / (last - first)
    return (1 - share) * line[first] + share * line[last]


@pytest.mark.parametrize('masking', MASKINGS)
def test_filling_equals_loops(masking):
    clip = torch.rand(2, 2, 10, 24, 16, dtype=torch.float64)
    mask = draw_masks(masking)
    found = interpolate_in_time(clip, split_mask(mask).visible, 2, 8)
    torch.testing.assert_close(found, naive_fill(clip, mask))


def test_all_kinds_of_places_are_filled():
    """Between two, before the first, after the last, and never seen."""
    mask = draw_masks(RandomMasking, 0.7).view(2, 5, 6)
    assert mask.all(1).any(), 'none is never visible'
    clip = torch.rand(2, 3, 10, 24, 16)
    visible = split_mask(mask.flatten(1)).visible
    torch.testing.assert_close(
        interpolate_in_time(clip, visible, 2, 8),
        naive_fill(clip, mask.flatten(1)),
    )


def test_what_changes_linearly_is_predicted_without_error():
    """Where something is visible on both sides."""
    start, slope = torch.rand(2, 1, 3, 1, 24, 16)
    time = torch.arange(10.0).view(-1, 1, 1)
    clip = 100 * start + 15 * slope * time
    mask = torch.zeros(1, 5, 6, dtype=torch.bool)
    mask[:, 1:4, ::2] = True
    visible = split_mask(mask.flatten(1)).visible
    found = interpolate_in_time(clip, visible, 2, 8)
    torch.testing.assert_close(found, clip)


@pytest.fixture
def frames():
    """A ramp with noise: interpolation explains most, not all of it."""
    start, slope = torch.rand(2, 2, 3, 1, 24, 16)
    time = torch.arange(10.0).view(-1, 1, 1)
    clip = 40 + 100 * start + 20 * (slope - 0.5) * time
    return (clip + torch.randn(2, 3, 10, 24, 16)).clamp(0, 255).byte()


def naive_r2(pred, true, tokens):
    pred, true = pred[tokens].double(), true[tokens].double()
    residual = (pred - true).square().sum()
    return 1 - (residual / (true - true.mean()).square().sum()).item()


@pytest.mark.parametrize('masking', MASKINGS)
@pytest.mark.parametrize('norm', ['tubelet', 'clip', 'none', 'tubelet-floor'])
@pytest.mark.parametrize('cls', [PixelTarget, FrameDifferenceTarget])
def test_prediction_of_a_target(frames, cls, norm, masking):
    """From the filled clip; what is of the whole clip is the true one's."""
    mask = draw_masks(masking)
    split = split_mask(mask)
    target = cls(name='x', norm=norm, **SIZE)
    video = target.video(frames)
    found = interpolate_target(target, frames, video, split, **SIZE)
    filled = naive_fill(frames.double(), mask) / 255
    if cls is FrameDifferenceTarget:
        later = filled[:, :, 1:] - filled[:, :, :-1]
        filled = torch.cat((later[:, :, :1], later), 2)
    true = video.double() / 255
    expected = []
    for b, row in enumerate(split.masked.tolist()):
        for token in row:
            t, y, x = token // 6, token // 2 % 3, token % 2
            cube = filled[b, :, 2 * t : 2 * t + 2]
            cube = cube[..., 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].flatten(1)
            std, mean = torch.std_mean(cube, 1, keepdim=True)
            if norm == 'clip':
                std, mean = torch.std_mean(true[b].flatten(1), 1, keepdim=True)
            if norm == 'tubelet-floor':
                std = (std**2 + target.noise(video)[b, 0] ** 2).sqrt()
            if norm == 'none':
                std, mean = 1 - 1e-6, 0
            expected.append(((cube - mean) / (std + 1e-6)).flatten())
    expected = torch.stack(expected).view(found.shape)
    close = dict(rtol=1e-3, atol=2e-3)
    if norm == 'tubelet':
        # Rounding, blown up, where the filled tubelet does not move at all.
        alive = expected.std(-1) > 0.5
        found, expected = found[alive], expected[alive]
    torch.testing.assert_close(found, expected.float(), **close)


def test_r2_of_the_oracle_is_high_where_it_should_be(frames):
    mask = torch.zeros(2, 5, 6, dtype=torch.bool)
    mask[:, 2] = True
    split = split_mask(mask.flatten(1))
    for target, low in (
        (PixelTarget(name='p', norm='clip', **SIZE), 0.99),
        (FrameDifferenceTarget(name='m', norm='none', **SIZE), 0.7),
    ):
        video = target.video(frames)
        pred = interpolate_target(target, frames, video, split, **SIZE)
        true = target.build(video, split.masked).values.flatten(2)
        assert low < naive_r2(pred, true, ...) < 1


def test_flow_is_filled_itself():
    flow = torch.rand(2, 2, 10, 24, 16)
    mask = draw_masks(RandomMasking)
    target = FlowTarget(name='f', norm='none', **SIZE)
    found = interpolate_target(
        target,
        torch.zeros(2, 3, 10, 24, 16, dtype=torch.uint8),
        flow,
        split_mask(mask),
        **SIZE,
    )
    filled = naive_fill(flow, mask)
    expected = target.build(filled, split_mask(mask).masked).values
    torch.testing.assert_close(found, expected.flatten(2))


def test_targets_that_need_levels_get_them(frames):
    """Histograms are those of integers."""
    target = HOGTarget(name='hog', **SIZE)
    mask = draw_masks(RandomMasking)
    split = split_mask(mask)
    found = interpolate_target(
        target, frames, target.video(frames), split, **SIZE
    )
    filled = naive_fill(frames.float(), mask).round().byte()
    expected = target.build(target.video(filled), split.masked).values
    torch.testing.assert_close(found, expected.flatten(2))


class LoadedVector(ReconstructionTarget):
    fields = ('vector',)


def test_what_is_no_video_has_no_oracle(frames):
    split = split_mask(draw_masks(TubeMasking))
    target = LoadedVector(name='v')
    assert interpolate_target(target, frames, frames, split, **SIZE) is None
