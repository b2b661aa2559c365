# Copyright (c) MotionMAE contributors. All rights reserved.
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmaction.registry import TASK_UTILS

from mmmotionmae.models.vos.keypoint_codec import KeypointCodec, KeypointLabels

ORIGINAL, IMAGE, GRID = (240, 300), (320, 320), (20, 20)


def sample(joints):
    """A data sample with these joints in its first frame."""
    first = np.array(joints, dtype=float)
    return SimpleNamespace(
        keypoints=np.stack([first, first + 7]),
        original_shape=ORIGINAL,
        img_shape=IMAGE,
    )


def gaussian_by_hand(x, y, sigma):
    """Pasted from a kernel, cell by cell; x and y in cells."""
    size = round(6 * sigma + 1)
    left, top = int(x - 3 * sigma), int(y - 3 * sigma)
    right, bottom = int(x + 3 * sigma + 1), int(y + 3 * sigma + 1)
    label = np.zeros(GRID)
    for row in range(size):
        for column in range(size):
            i, j = top + row, left + column
            if 0 <= i < min(bottom, 20) and 0 <= j < min(right, 20):
                squares = (row - size // 2) ** 2 + (column - size // 2) ** 2
                label[i, j] = math.exp(-squares / (2 * sigma**2))
    return label


@pytest.mark.parametrize('sigma', [0.5, 1, 1.5])
def test_joints_are_drawn_as_gaussians(sigma):
    # Inside, on every side of the border, and outside of it.
    joints = [
        (x, y)
        for x in (-100, -12.3, 0, 10, 151.5, 293, 299, 420)
        for y in (-80, 0, 6.1, 119.9, 236, 270)
    ]
    labels, _ = KeypointCodec(sigma).encode(sample(joints), GRID)
    cells = [(x * 20 / 300, y * 20 / 240) for x, y in joints]
    expected = np.stack([gaussian_by_hand(*cell, sigma) for cell in cells])
    assert labels.dtype == torch.float32
    np.testing.assert_allclose(labels[1:], expected, rtol=1e-6)
    np.testing.assert_array_equal(labels[0], expected.sum(0) == 0)
    drawn = expected.any((1, 2))
    assert 20 < drawn.sum() < len(joints)


def test_a_joint_comes_back_where_it_was_to_half_a_cell():
    joints = np.random.default_rng(0).uniform(40, 200, (15, 2))
    codec = KeypointCodec()
    found = codec.decode(*codec.encode(sample(joints), GRID))
    assert found.dtype == np.float32
    assert (np.abs(found - joints) <= [7.5 + 1e-4, 6 + 1e-4]).all()


def test_the_strongest_cells_are_averaged():
    maps = torch.rand(5, 6, 10, generator=torch.Generator().manual_seed(0))
    maps[3] = 0
    found = KeypointCodec(num_cells=3).decode(maps, KeypointLabels((60, 50)))
    for joint, (x, y) in zip(maps[1:].numpy(), found, strict=True):
        cells = sorted(
            (joint[i, j], j * 5, i * 10) for i in range(6) for j in range(10)
        )[-3:]
        total = sum(weight for weight, _, _ in cells)
        if total == 0:
            assert math.isnan(x) and math.isnan(y)
            continue
        assert x == pytest.approx(sum(w * c for w, c, _ in cells) / total)
        assert y == pytest.approx(sum(w * c for w, _, c in cells) / total)
    assert np.isnan(found[2]).all()
    assert not np.isnan(np.delete(found, 2, 0)).any()


def test_what_is_not_annotated_is_lost():
    codec = KeypointCodec()
    joints = [(100, 100), (math.nan, math.nan)]
    labels, state = codec.encode(sample(joints), GRID)
    assert not labels[2].any()
    first = codec.decode(labels, state)
    assert not np.isnan(first[0]).any() and np.isnan(first[1]).all()


def test_registered_and_checked():
    codec = TASK_UTILS.build(dict(type='KeypointCodec', sigma=1))
    assert codec.describe() == dict(sigma=1, num_cells=5)
    for sigma in (0, 0.4, -0.5):
        with pytest.raises(ValueError, match='multiple of 1/6'):
            KeypointCodec(sigma)
