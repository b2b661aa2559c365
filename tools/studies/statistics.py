# Copyright (c) MotionMAE contributors. All rights reserved.
"""Means and paired differences with intervals that respect clusters.

Shapes: P pre-trainings, R runs of each (fine-tunings, or draws of labels), V
test items (videos, objects), K clusters of these.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A value and its interval."""

    value: float
    low: float
    high: float


def bootstrap(
    first: Values,
    second: Values | None,
    clusters: Sequence[str],
    crossed: bool = False,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Mean, or paired difference of means, by the cluster bootstrap.

    Whole clusters are drawn with replacement, for both sides the same, since
    items of a cluster depend on each other; and pre-trainings, for each side
    its own, since they are independent. The interval is that of the
    percentiles (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapters 8 and 13). With few pre-trainings it is somewhat too narrow: of P
    values drawn with replacement the variance is (P - 1) / P of what it
    should be.

    Args:
        first: (P, R, V).
        second: (P', R', V), subtracted; None: nothing is.
        clusters: (V, ), the cluster of each item.
        crossed: Whether run r is the same draw of the labels for all
            pre-trainings of both sides. Then these are drawn, too, for both
            sides the same. Runs of a pre-training's own are averaged.
        confidence: Between 0 and 1.
        resamples: How many.
        seed: Of the draws.

    Returns:
        Mean over all, or difference of the means, and its interval.

    Raises:
        ValueError: If the sides have other items than the clusters, or
            crossed runs not the same number of them.
    """
    sides = [first] if second is None else [first, second]
    for side in sides:
        if side.ndim != 3 or side.shape[2] != len(clusters):
            raise ValueError(
                f'Values of shape (P, R, {len(clusters)}) are needed, not '
                f'{side.shape}.'
            )
    rng = np.random.default_rng(seed)
    _, member = np.unique(list(clusters), return_inverse=True)
    sizes = np.bincount(member)
    draws = _draws(rng, len(sizes), resamples)
    tuned = np.ones((resamples, 1))
    if crossed:
        number = first.shape[1]
        if any(side.shape[1] != number for side in sides):
            raise ValueError('Crossed runs are as many on both sides.')
        tuned = _draws(rng, number, resamples) / number
    value, total = 0.0, np.zeros(resamples)
    for sign, side in zip((1, -1), sides, strict=False):
        runs = side if crossed else side.mean(1, keepdims=True)
        sums = np.apply_along_axis(
            lambda row: np.bincount(member, row), 2, runs
        )  # (P, R, K)
        trained = _draws(rng, len(side), resamples) / len(side)
        total += sign * np.einsum(
            'np,nr,prk,nk->n', trained, tuned, sums, draws, optimize=True
        )
        value += sign * float(side.mean())
    total /= draws @ sizes
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(total, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def _draws(
    rng: np.random.Generator, number: int, resamples: int
) -> npt.NDArray[np.int64]:
    """How often each of a number of things is drawn, (resamples, number)."""
    return rng.multinomial(number, np.full(number, 1 / number), resamples)
