# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest

from mmmotionmae.evaluation.functional.semantic_segmentation import (
    confusion_matrix,
    segmentation_scores,
)


def scores_by_hand(images, num_classes):
    """Pixel by pixel; classes that appear nowhere are left out."""
    union, both, in_gt = ([0] * num_classes for _ in range(3))
    for gt, pred in images:
        for g, p in zip(gt.flat, pred.flat, strict=True):
            if g >= num_classes:
                continue
            in_gt[g] += 1
            for c in range(num_classes):
                union[c] += c in (g, p)
                both[c] += c == g == p
    ious = [b / u for b, u in zip(both, union, strict=True) if u]
    accs = [b / n for b, n in zip(both, in_gt, strict=True) if n]
    return dict(
        mIoU=sum(ious) / len(ious),
        mAcc=sum(accs) / len(accs),
        aAcc=sum(both) / sum(in_gt),
    )


def test_scores_are_of_the_sum_over_images_and_of_classes_that_appear():
    rng = np.random.default_rng(0)
    images = []
    for _ in range(3):
        gt = rng.integers(0, 4, (5, 7)).astype(np.uint8)
        pred = np.where(rng.random(gt.shape) < 0.6, gt, 5)  # 5: in no GT
        gt[0, :3] = 255  # not counted
        images.append((gt, pred.astype(np.uint8)))
    confusion = sum(confusion_matrix(gt, pred, 20) for gt, pred in images)
    scores, iou = segmentation_scores(confusion)
    assert scores == pytest.approx(scores_by_hand(images, 20), abs=1e-12)
    assert np.isnan(iou).nonzero()[0].tolist() == [4, *range(6, 20)]
    assert iou[5] == 0


def test_rows_are_the_ground_truth():
    gt, pred = np.array([[0, 1, 1]]), np.array([[0, 0, 1]])
    assert confusion_matrix(gt, pred, 2).tolist() == [[1, 0], [1, 1]]


def test_what_cannot_be_scored_is_an_error():
    blank = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match=r'\(2, 2\).*\(2, 3\)'):
        confusion_matrix(np.zeros((2, 3), np.uint8), blank, 20)
    with pytest.raises(ValueError, match='0 to 20; there are 20 classes'):
        confusion_matrix(blank, np.array([[0, 20], [0, 0]], np.uint8), 20)
    with pytest.raises(ValueError, match='no pixel'):
        segmentation_scores(confusion_matrix(blank + 255, blank, 20))
