# Copyright (c) MotionMAE contributors. All rights reserved.
import math

import numpy as np
import pytest

from mmmotionmae.evaluation.functional.pck import normalized_distances, pck

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def pck_by_hand(videos, threshold):
    """Joint by joint, with plain numbers."""
    hits = {}
    for pred, gt in videos:
        for p, g in list(zip(pred, gt, strict=True))[1:]:
            found = [k for k in range(len(g)) if not math.isnan(p[k][0])]
            if not found:
                continue
            width = max(g[k][0] for k in found) - min(g[k][0] for k in found)
            height = max(g[k][1] for k in found) - min(g[k][1] for k in found)
            size = 0.6 * math.hypot(width, height)
            for k in found:
                d = math.hypot(p[k][0] - g[k][0], p[k][1] - g[k][1])
                right = size > 0 and d / size <= threshold
                hits.setdefault(k, []).append(right)
    shares = [sum(h) / len(h) for h in hits.values()]
    return sum(shares) / len(shares)


@pytest.fixture
def videos():
    """Three videos of 15 joints, a third of which are lost."""
    rng = np.random.default_rng(0)
    videos = []
    for num_frames in (2, 5, 9):
        gt = rng.uniform(0, 200, (num_frames, 15, 2))
        pred = gt + rng.normal(0, 30, gt.shape)
        pred[rng.random(pred.shape[:2]) < 0.3] = np.nan
        videos.append((pred.astype(np.float32), gt))
    return videos


@pytest.mark.parametrize('threshold', THRESHOLDS)
def test_pck_is_the_mean_over_joints_of_their_share(videos, threshold):
    distances = np.concatenate([normalized_distances(*v) for v in videos])
    expected = pck_by_hand(
        [(pred.tolist(), gt.tolist()) for pred, gt in videos], threshold
    )
    assert 0.1 < expected < 0.99
    assert pck(distances, threshold)[0] == pytest.approx(expected, abs=1e-12)


def test_the_box_is_of_annotated_joints_that_are_not_lost():
    gt = np.zeros((2, 3, 2))
    gt[:, 1] = 30, 40  # diagonal 50 without the last joint
    gt[:, 2] = 300, 400
    pred = gt.copy()
    pred[:, 0] += 0, 3
    pred[:, 2] = np.nan
    distances = normalized_distances(pred, gt)
    assert distances[1, 0] == pytest.approx(3 / (0.6 * 50))
    assert distances[1, 1] == 0
    assert np.isnan(distances[1, 2])
    assert np.isnan(distances[0]).all()  # the first frame is given


def test_one_joint_alone_has_no_size_and_is_wrong():
    gt = np.ones((2, 2, 2))
    pred = gt.copy()
    pred[:, 1] = np.nan
    distances = normalized_distances(pred, gt)
    assert distances[1, 0] == np.inf
    assert pck(distances, 0.5)[0] == 0


def test_joints_never_found_have_no_part_in_the_mean():
    distances = np.array([[0.1, np.nan, 0.6], [0.5, np.nan, 0.2]])
    mean, shares = pck(distances, 0.2)
    assert mean == 0.5
    np.testing.assert_array_equal(shares, [0.5, np.nan, 0.5])
    assert math.isnan(pck(np.full((2, 3), np.nan), 0.2)[0])


def test_other_shapes_are_an_error():
    with pytest.raises(ValueError, match=r'\(3, 15, 2\).*\(4, 15, 2\)'):
        normalized_distances(np.zeros((3, 15, 2)), np.zeros((4, 15, 2)))
