# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np


def confusion_matrix(
    gt: np.ndarray, pred: np.ndarray, num_classes: int
) -> np.ndarray:
    """Count how often each class is taken for each other class.

    Args:
        gt: Classes of the ground truth, integers of any shape. Pixels whose
            class is not below ``num_classes`` are not counted.
        pred: Predicted classes, of the same shape, all below ``num_classes``.
        num_classes: Number of classes, the background included.

    Returns:
        (num_classes, num_classes) int64; rows are the ground truth, columns
        the prediction.

    Raises:
        ValueError: If the shapes differ, or a predicted class is out of range.
    """
    if gt.shape != pred.shape:
        raise ValueError(
            f'The prediction has shape {pred.shape}, the ground truth '
            f'{gt.shape}.'
        )
    if pred.size and not 0 <= pred.min() <= pred.max() < num_classes:
        raise ValueError(
            f'Predicted classes are {pred.min()} to {pred.max()}; there are '
            f'{num_classes} classes, from 0.'
        )
    counted = (gt >= 0) & (gt < num_classes)
    pairs = num_classes * gt[counted].astype(np.int64) + pred[counted]
    counts = np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def segmentation_scores(
    confusion: np.ndarray,
) -> tuple[dict[str, float], np.ndarray]:
    """Scores of semantic segmentation.

    Args:
        confusion: (C, C), see :func:`confusion_matrix`, summed over all
            images that count.

    Returns:
        The scores, between 0 and 1, and the intersection over union of each
        class, (C,) float64. ``mIoU`` is the mean of the latter over classes
        that are in the ground truth or in the prediction (others are NaN);
        ``mAcc`` the mean share of pixels that are right, over classes in the
        ground truth; ``aAcc`` the share of all pixels that are right.

    Raises:
        ValueError: If there is no pixel at all.
    """
    if not confusion.sum():
        raise ValueError('There is no pixel with ground truth to score.')
    right = np.diag(confusion)
    in_gt = confusion.sum(1)
    union = in_gt + confusion.sum(0) - right
    iou = _ratio(right, union)
    scores = dict(
        mIoU=float(np.nanmean(iou)),
        mAcc=float(np.nanmean(_ratio(right, in_gt))),
        aAcc=float(right.sum() / confusion.sum()),
    )
    return scores, iou


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, NaN where both are 0."""
    ratio = np.full(len(whole), np.nan)
    return np.divide(part, whole, out=ratio, where=whole > 0)
