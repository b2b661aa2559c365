# Copyright (c) MotionMAE contributors. All rights reserved.
"""Top-k accuracy, with confidence intervals.

Shapes: M videos, C classes.
"""

from typing import Any

import numpy as np
from scipy.stats import binomtest


def wilson_interval(
    hits: int, count: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of a share, after Wilson.

    With z, the quantile of the normal distribution, n, the count, and p, the
    share: ``(p + z²/2n ± z √(p (1 - p)/n + z²/4n²)) / (1 + z²/n)``, in
    E. B. Wilson, "Probable Inference, the Law of Succession, and
    Statistical Inference", JASA 22 (1927); without a correction for
    continuity. Computed by SciPy.

    Args:
        hits: How many count.
        count: Of how many, at least 1.
        confidence: Between 0 and 1.

    Returns:
        Its ends, between 0 and 1.
    """
    interval = binomtest(hits, count).proportion_ci(confidence, 'wilson')
    return float(interval.low), float(interval.high)


def top_k_hits(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Hits: labels that are among the k classes of highest score.

    Of equal scores the first classes count as higher. A class with the score
    0 is no answer, so that of votes those for other classes than the label do
    not make it a hit.

    Args:
        scores: (M, C), 0 or more.
        labels: (M, ), int, in [0, C).
        k: At least 1.

    Returns:
        (M, ), bool.

    Examples:
        >>> scores = np.array([[0.1, 0.5, 0.4], [0, 2, 0]])
        >>> top_k_hits(scores, np.array([2, 0]), 2)
        array([ True, False])
    """
    order = np.argsort(-scores, axis=1, kind='stable')[:, :k]
    answered = scores[np.arange(len(labels)), labels] > 0
    return (order == labels[:, None]).any(1) & answered


def describe_accuracy(
    scores: np.ndarray, labels: np.ndarray, confidence: float = 0.95
) -> dict[str, Any]:
    """Accuracies with confidence intervals.

    Args:
        scores: (M, C), 0 or more.
        labels: (M, ), int, in [0, C).
        confidence: Of the intervals, see :func:`wilson_interval`.

    Returns:
        ``videos``, M; ``top1`` and ``top5``, shares between 0 and 1 with
        ``_low`` and ``_high``; ``mean_class``, the mean share over the
        classes that there are videos of, which has no such interval. There is
        no ``top5`` of five classes or fewer, where it tells nothing.
    """
    result: dict[str, Any] = dict(videos=len(labels))
    for k in (1, 5):
        if k > 1 and scores.shape[1] <= k:
            continue
        hits = top_k_hits(scores, labels, k)
        low, high = wilson_interval(int(hits.sum()), len(hits), confidence)
        result |= {
            f'top{k}': float(hits.mean()),
            f'top{k}_low': low,
            f'top{k}_high': high,
        }
        if k == 1:
            shares = [hits[labels == c].mean() for c in np.unique(labels)]
            result['mean_class'] = float(np.mean(shares))
    return result
