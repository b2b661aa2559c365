# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np

# The size of a person is this share of the diagonal of the joints' box.
BOX_SHARE = 0.6


def normalized_distances(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Distances of predicted joints, in units of the person's size.

    As in ``eval_pck.py`` of https://github.com/ajabri/videowalk: the size is
    0.6 times the diagonal of the box around the annotated joints that are not
    lost *in the prediction*, and the first frame does not count.

    Args:
        pred: (T, K, 2) x and y in pixels; NaN where a joint is lost.
        gt: (T, K, 2) likewise, without NaN.

    Returns:
        (T, K) float64, NaN where a joint is lost and in the first frame. Where
        the box is a point (one joint only) no size can be told; the distance
        is infinite, so that the joint counts as wrong.

    Raises:
        ValueError: If the shapes differ.
    """
    if pred.shape != gt.shape:
        raise ValueError(
            f'Predicted joints have shape {pred.shape}, annotated ones '
            f'{gt.shape}; both must be (frames, joints, 2).'
        )
    found = ~np.isnan(pred).any(-1)
    # Lost joints are given no part in the box.
    low = np.where(found[..., None], gt, np.inf).min(1)
    high = np.where(found[..., None], gt, -np.inf).max(1)
    size = BOX_SHARE * np.linalg.norm(high - low, axis=-1)[:, None]
    distances = np.linalg.norm(pred.astype(np.float64) - gt, axis=-1)
    normalized = np.full(found.shape, np.inf)
    np.divide(distances, size, out=normalized, where=size > 0)
    normalized[~found] = np.nan
    normalized[0] = np.nan
    return normalized


def pck(distances: np.ndarray, threshold: float) -> tuple[float, np.ndarray]:
    """Percentage of correct keypoints, as a share.

    Args:
        distances: (N, K), see :func:`normalized_distances`, frames of all
            videos one after the other; NaN is not counted.
        threshold: Largest distance that is correct.

    Returns:
        The mean over joints, and the share of each joint, (K,) float64, both
        between 0 and 1. A joint that is lost in every frame has no share: NaN,
        and no part in the mean. The mean is NaN if all are lost.
    """
    counted = np.count_nonzero(~np.isnan(distances), axis=0)
    correct = np.count_nonzero(distances <= threshold, axis=0)
    shares = np.full(len(counted), np.nan)
    np.divide(correct, counted, out=shares, where=counted > 0)
    mean = np.nanmean(shares) if counted.any() else np.nan
    return float(mean), shares
