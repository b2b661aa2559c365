# Copyright (c) MotionMAE contributors. All rights reserved.
"""`evaluation/functional/davis.py`, beside the definitions as plain loops."""

import math
from fractions import Fraction

import numpy as np
import pytest

from mmmotionmae.evaluation.functional.davis import (
    boundary_accuracy,
    evaluate_sequence,
    region_similarity,
    statistics,
)

SMALL = [(1, 1), (1, 9), (9, 1), (2, 2), (3, 7), (7, 8), (8, 16), (17, 31)]
# The tolerance is 1 pixel in the above; here it is 1 (0.8 % of 125), 2, 5, 9
# and 9.
LARGE = [(75, 100), (33, 170), (40, 500), (4, 1100), (1100, 3)]


def masks_of(height, width, rng):
    """Masks of all kinds, by name."""
    empty = np.zeros((height, width), dtype=bool)
    masks = dict(empty=empty, full=~empty)
    rows, columns = [0, height // 2, height - 1], [0, width // 2, width - 1]
    for y in rows:
        for x in columns:
            masks[f'pixel {y} {x}'] = empty.copy()
            masks[f'pixel {y} {x}'][y, x] = True
    half, third = (height + 1) // 2, (width + 2) // 3
    areas = dict(
        top=np.s_[:half],
        bottom=np.s_[half:],
        left=np.s_[:, :third],
        right=np.s_[:, third:],
        inside=np.s_[half // 2 : half, third // 2 : 2 * third],
    )
    for name, area in areas.items():
        masks[name] = empty.copy()
        masks[name][area] = True
    masks['frame'] = ~masks['inside']
    for share in (0.02, 0.5, 0.95):
        masks[f'noise {share}'] = rng.random((height, width)) < share
    return masks


def boundary_points(mask):
    """The boundary pixels, (N, 2), one pixel after the other."""
    height, width = mask.shape
    pixels = mask.tolist()
    points = []
    for y in range(height):
        for x in range(width):
            here = pixels[y][x]
            if y == height - 1 and x == width - 1:
                others = []
            elif y == height - 1:
                others = [pixels[y][x + 1]]
            elif x == width - 1:
                others = [pixels[y + 1][x]]
            else:
                below = pixels[y + 1]
                others = [pixels[y][x + 1], below[x], below[x + 1]]
            if any(other != here for other in others):
                points.append((y, x))
    return np.array(points, dtype=np.int64).reshape(-1, 2)


def share_near(points, others, shape):
    """The share of points that have one of the others within reach."""
    # The smallest whole number of pixels that is 0.8 % of the diagonal.
    radius = 0
    while (125 * radius) ** 2 < shape[0] ** 2 + shape[1] ** 2:
        radius += 1
    near = 0
    for y, x in points:
        squares = (others[:, 0] - y) ** 2 + (others[:, 1] - x) ** 2
        near += int(squares.min() <= radius**2)
    return near / len(points)


def expected_j(gt, mask):
    pairs = list(zip(gt.ravel().tolist(), mask.ravel().tolist(), strict=True))
    union = sum(a or b for a, b in pairs)
    return sum(a and b for a, b in pairs) / union if union else 1


def expected_f(gt, mask, gt_points, points):
    if not len(points) and not len(gt_points):
        return 1
    if not len(points) or not len(gt_points):
        return 0
    precision = share_near(points, gt_points, gt.shape)
    recall = share_near(gt_points, points, gt.shape)
    if precision + recall == 0:
        return 0
    return 2 * precision * recall / (precision + recall)


def check_pairs(masks, pairs):
    points = {name: boundary_points(mask) for name, mask in masks.items()}
    gt = np.stack([masks[a] for a, _ in pairs])
    mask = np.stack([masks[b] for _, b in pairs])
    j, f = region_similarity(gt, mask), boundary_accuracy(gt, mask)
    for (a, b), one_j, one_f in zip(pairs, j, f, strict=True):
        expected = expected_j(masks[a], masks[b])
        assert one_j == pytest.approx(expected, abs=1e-12), (a, b)
        expected = expected_f(masks[a], masks[b], points[a], points[b])
        assert one_f == pytest.approx(expected, abs=1e-12), (a, b)


@pytest.mark.parametrize('size', SMALL, ids=str)
def test_every_pair_of_masks(size):
    masks = masks_of(*size, np.random.default_rng(0))
    check_pairs(masks, [(a, b) for a in masks for b in masks])


@pytest.mark.parametrize('size', LARGE, ids=str)
def test_masks_with_a_wide_tolerance(size):
    rng = np.random.default_rng(1)
    masks = masks_of(*size, rng)
    names = list(masks)
    pairs = list(zip(names, rng.permutation(names).tolist(), strict=True))
    # Discs at the corners are cut off.
    pairs += [(name, 'noise 0.02') for name in names if 'pixel' in name]
    check_pairs(masks, pairs)


@pytest.mark.parametrize(('gap', 'hit'), [(4, True), (5, False)])
def test_the_tolerance_is_in_whole_pixels(gap, hit):
    """0.8 % of the diagonal of 300x400, 500, is 4."""
    gt, mask = np.zeros((2, 1, 300, 400), dtype=bool)
    gt[:, :, :100] = True
    mask[:, :, : 100 + gap] = True
    assert boundary_accuracy(gt, mask) == [float(hit)]


@pytest.mark.parametrize('radius', range(1, 17))
def test_the_tolerance_is_a_disk(radius):
    """A pixel at the corner, and a mask whose boundary is everywhere."""
    height, width = 20, 125 * radius - 10
    gt = np.zeros((1, height, width), dtype=bool)
    gt[0, 0, 0] = True
    y, x = np.indices((height, width))
    chessboard = (y + x) % 2 == 1
    quarter = sum(
        y**2 + x**2 <= radius**2
        for y in range(radius + 1)
        for x in range(radius + 1)
    )
    precision = quarter / (height * width - 1)  # not at the last corner
    expected = 2 * precision / (precision + 1)
    found = boundary_accuracy(gt, chessboard[None])
    assert found == pytest.approx([expected], rel=1e-12)


def test_a_mask_that_fills_the_frame_has_no_boundary():
    gt = np.zeros((1, 20, 30), dtype=bool)
    assert region_similarity(gt, ~gt) == [0]
    assert boundary_accuracy(gt, ~gt) == [1]


def test_an_object_that_is_gone():
    gt = np.zeros((3, 20, 30), dtype=bool)
    gt[0, 5:10, 5:10] = True
    mask = gt.copy()
    mask[2, 3:9, 3:9] = True  # seen where there is none
    assert region_similarity(gt, mask).tolist() == [1, 1, 0]
    assert boundary_accuracy(gt, mask).tolist() == [1, 1, 0]
    # Not seen where there is one.
    assert region_similarity(gt, gt[::-1]).tolist() == [0, 1, 0]
    assert boundary_accuracy(gt, gt[::-1]).tolist() == [0, 1, 0]


def test_objects_are_scored_one_by_one():
    rng = np.random.default_rng(2)
    gt = rng.integers(0, 6, (4, 24, 37)).astype(np.uint8)
    gt[gt == 2] = 0  # an id that is never there
    masks = rng.integers(0, 6, (4, 24, 37)).astype(np.uint8)
    masks[1][masks[1] == 1] = 0
    scores = evaluate_sequence(iter(gt), iter(masks), num_objects=4)
    assert len(scores) == 4
    for number, item in enumerate(scores, 1):
        for t in range(4):
            a, b = gt[t] == number, masks[t] == number
            points = boundary_points(a), boundary_points(b)
            assert item.region[t] == pytest.approx(expected_j(a, b))
            assert item.boundary[t] == pytest.approx(expected_f(a, b, *points))
    assert scores[1].region.tolist() == [0, 0, 0, 0]


def test_no_objects():
    frames = np.ones((3, 5, 5), dtype=np.uint8)
    assert evaluate_sequence(frames, frames, num_objects=0) == []


def test_frames_are_taken_one_at_a_time():
    log = []

    def frames(name):
        for t in range(300):
            log.append(name)
            yield np.full((6, 6), t % 2, dtype=np.uint8)

    scores = evaluate_sequence(frames('gt'), frames('mask'), num_objects=1)
    assert log == ['gt', 'mask'] * 300
    assert scores[0].region.tolist() == [1] * 300


def test_what_does_not_belong_together():
    a, b = np.zeros((3, 5, 6), np.uint8), np.zeros((3, 5, 7), np.uint8)
    with pytest.raises(ValueError, match=r'\(5, 6\), the mask \(5, 7\)'):
        evaluate_sequence(a, b, num_objects=1)
    with pytest.raises(ValueError, match='shorter'):
        evaluate_sequence(a, a[:2], num_objects=1)


@pytest.mark.parametrize('num_frames', [1, 2, 3, 4, 5, 6, 7, 98, 255, 298])
def test_statistics(num_frames):
    """Beside exact sums over bins with ends rounded half up."""
    values = np.random.default_rng(3).integers(0, 9, num_frames) / 8
    exact = [Fraction(value) for value in values]
    ends = [
        math.floor(Fraction(i * (num_frames - 1), 4) + Fraction(1, 2))
        for i in range(5)
    ]
    first, last = exact[: ends[1] + 1], exact[ends[3] :]
    found = statistics(values)
    assert found.mean == pytest.approx(float(sum(exact) / num_frames))
    assert found.recall == sum(2 * v > 1 for v in exact) / num_frames
    decay = sum(first) / len(first) - sum(last) / len(last)
    assert found.decay == pytest.approx(float(decay), abs=1e-12)


def test_statistics_of_a_long_fall():
    """From 256 frames on, ends in 8 bits would be wrong."""
    values = np.linspace(1, 0, 1001)
    found = statistics(values)
    assert found.mean == pytest.approx(0.5)
    assert found.recall == 500 / 1001  # 0.5 itself is not above
    assert found.decay == pytest.approx(0.75)


def test_statistics_of_nothing():
    assert all(math.isnan(value) for value in statistics([]))
