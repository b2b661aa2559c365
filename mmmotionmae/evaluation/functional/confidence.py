# Copyright (c) MotionMAE contributors. All rights reserved.
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
