# Copyright (c) MotionMAE contributors. All rights reserved.
import math

import numpy as np
import pytest
import torch
from conftest import as_batch, tube_mask
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper

from mmmotionmae.datasets import moving_shapes
from mmmotionmae.models.targets.hog_target import hog, hog_to_rgb


def build(**kwargs):
    return MODELS.build(dict(type='HOGTarget', name='hog') | kwargs)


def naive_hog(frame, num_bins, cell_size, gaussian_window=0):
    """Of one channel (H, W), one pixel after the other: (K, h, w)."""
    height, width = frame.shape
    histograms = np.zeros((num_bins, height // cell_size, width // cell_size))

    def level(y, x):
        """Reflected at the border, which is not repeated."""
        y = abs(y) if y < height else 2 * height - 2 - y
        x = abs(x) if x < width else 2 * width - 2 - x
        return int(frame[y, x])

    def weight(place):
        if not gaussian_window:
            return 1.0
        middle = (gaussian_window - 1) / 2
        off = (place % gaussian_window - middle) / (gaussian_window // 2)
        return math.exp(-(off**2) / 2)

    for y in range(height):
        for x in range(width):
            gx = gy = 0
            for step, factor in ((-1, 1), (0, 2), (1, 1)):
                gx += factor * (
                    level(y + step, x - 1) - level(y + step, x + 1)
                )
                gy += factor * (
                    level(y - 1, x + step) - level(y + 1, x + step)
                )
            # Half a turn from the y-axis; exactly vertical is the first bin.
            turn = math.atan2(gx, gy) / math.pi % 1.0 if gx else 0.0
            k = math.floor(turn * num_bins)
            length = math.hypot(gx, gy) * weight(y) * weight(x)
            histograms[k, y // cell_size, x // cell_size] += length
    size = np.sqrt((histograms**2).sum(0))
    return histograms / np.where(size > 0, size, 1)


def frames_with_everything(*shape):
    """Noise, a smooth part, a flat one and a bar with straight edges."""
    frames = torch.randint(256, shape, dtype=torch.uint8)
    height, width = shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing='ij'
    )
    smooth = 120 + 100 * torch.sin(x / 5 + y / 9) * torch.cos(y / 7)
    frames[..., : height // 2, :] = smooth[: height // 2].byte()
    frames[..., : width // 3] = 77
    frames[..., height // 4 : height // 4 + 5, 2 : width // 3 - 3] = 200
    return frames


@pytest.mark.parametrize('gaussian_window', [0, 16])
@pytest.mark.parametrize(('num_bins', 'cell_size'), [(9, 8), (6, 4), (10, 16)])
def test_histograms_equal_loops(num_bins, cell_size, gaussian_window):
    clip = frames_with_everything(1, 2, 2, 32, 48)
    found = hog(clip, num_bins, cell_size, gaussian_window)
    assert found.dtype == torch.float32
    for c in range(2):
        for t in range(2):
            expected = naive_hog(
                clip[0, c, t].numpy(), num_bins, cell_size, gaussian_window
            )
            np.testing.assert_allclose(
                found[0, c, :, t].numpy(), expected, atol=1e-5
            )


def test_edges_in_closed_form():
    """Stripes: all gradients of one direction, in its bin alone."""
    y, x = np.mgrid[:32, :32]
    for direction, expected in ((x, 4), (y, 0), (x + y, 2), (x - y, 6)):
        # atan2(gx, gy) of 90, 0, 45 and 135 degrees, in bins of 20.
        stripes = torch.from_numpy(direction % 8 * 30).byte()
        inner = hog(stripes.view(1, 1, 1, 32, 32), 9, 8)[0, 0, :, 0, 1:3, 1:3]
        assert inner.argmax(0).eq(expected).all()
        if expected in (0, 4):
            assert inner.sum(0).eq(1).all()


def test_flat_cells_are_zero_and_others_of_length_one():
    clip = frames_with_everything(2, 3, 2, 64, 96)
    length = hog(clip, 9, 8).norm(dim=2)
    flat = length == 0
    assert flat.any() and not flat.all()
    torch.testing.assert_close(length[~flat], torch.ones_like(length[~flat]))


@pytest.mark.parametrize('frames', ['all', 'first'])
def test_values_of_the_target_equal_loops(frames):
    """Of 2x16x16 pixels, ordered channel, bin, frame, row, column."""
    clip = frames_with_everything(2, 3, 4, 32, 48)
    target = build(frames=frames)
    video = target.video(clip)
    index = tube_mask(2, (2, 2, 3), 4).nonzero()[:, 1].view(2, -1)
    found = target.build(video, index)
    times = (0, 1) if frames == 'all' else (0,)
    assert target.num_values == 3 * 9 * len(times) * 4
    assert found.values[0, 0].numel() == target.num_values
    maps = {
        place: naive_hog(clip[place].numpy(), 9, 8)
        for place in np.ndindex(2, 3, 4)
    }
    for b in range(2):
        for i, token in enumerate(index[b].tolist()):
            t, y, x = token // 6, token // 3 % 2, token % 3
            expected = [
                maps[b, c, 2 * t + f][k, 2 * y + row, 2 * x + column]
                for c in range(3)
                for k in range(9)
                for f in times
                for row in (0, 1)
                for column in (0, 1)
            ]
            np.testing.assert_allclose(
                found.values[b, i].flatten().numpy(), expected, atol=1e-5
            )
    assert found.mean == 0 and found.std == 1
    # In parts, to save memory.
    many = target.video(clip[:1].expand(17, -1, -1, -1, -1))
    assert torch.equal(many, video[:1].expand_as(many))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(frames='last'), "not 'last'"),
        (dict(cell_size=6), '6 pixels do not divide tubelets of 16'),
        (dict(norm='tubelet'), 'none'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_lines_are_drawn_along_edges():
    """A vertical edge is a vertical line, and so on; brightness adds up."""
    y, x = np.mgrid[:32, :32]
    middle = slice(9, 15), slice(9, 15)  # of a cell
    for direction, line in (
        (x, lambda row, column: column in (2, 3)),
        (y, lambda row, column: row in (2, 3)),
    ):
        stripes = torch.from_numpy(direction % 8 * 30).byte()
        histograms = hog(stripes.view(1, 1, 1, 32, 32), 9, 8)[0, 0]
        drawn = hog_to_rgb(histograms, 8)
        assert drawn.shape == (1, 32, 32, 3) and drawn.dtype == np.uint8
        bright = drawn[0, ..., 0][middle]
        on = [bright[p] for p in np.ndindex(6, 6) if line(*p)]
        off = [bright[p] for p in np.ndindex(6, 6) if not line(*p)]
        assert np.mean(on) > 5 * np.mean(off)
    assert not hog_to_rgb(torch.full((9, 2, 3, 4), -1.0), 8).any()
    assert hog_to_rgb(torch.full((9, 2, 3, 4), 9.0), 8).max() == 255


@pytest.mark.parametrize('frames', ['all', 'first'])
def test_pictures_have_the_size_of_the_clip(frames):
    target = build(frames=frames)
    clip = frames_with_everything(1, 3, 4, 32, 48)
    video = target.video(clip)[0]
    drawn = target.draw(video, target.scale(video))
    assert drawn.shape == (4, 32, 48, 3) and drawn.any()
    if frames == 'first':
        assert np.array_equal(drawn[0], drawn[1])
    assert target.legend(1.0)


def test_overfits_one_batch(tiny_model):
    clips = []
    for i in range(2):
        scene = moving_shapes.sample_scene(
            np.random.default_rng(i), moving_shapes.DIRECTIONS[i]
        )
        video, _ = moving_shapes.render(scene, num_frames=8, size=32)
        clips.append(torch.from_numpy(video).permute(3, 0, 1, 2))
    batch = as_batch(torch.stack(clips), tube_mask(2))
    model = tiny_model(
        neck=dict(embed_dims=64, num_heads=4),
        targets=dict(hog=dict(type='HOGTarget', cell_size=8)),
    )
    model.init_weights()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=5e-3, betas=(0.9, 0.95)
    )
    wrapper = OptimWrapper(optimizer)
    start = model.train_step(batch, wrapper)
    for _ in range(250):
        log = model.train_step(batch, wrapper)
    assert log['loss_hog'] < 0.05 * start['loss_hog']
    assert log['r2_hog'] > 0.8
    with torch.no_grad():
        samples = model.val_step(batch)
    truth = model.targets['hog'].video(torch.stack(clips))
    for true, sample in zip(truth, samples, strict=True):
        off = sample.hog_reconstruction[0] - true
        assert off.abs().mean() < 0.1
