# Copyright (c) MotionMAE contributors. All rights reserved.
"""Intervals of the study, against loops, closed forms and SciPy."""

import inspect

import numpy as np
import pytest
from scipy import stats
from studies.statistics import bootstrap


def naive(first, second, clusters, resamples, seed):
    """The same draws, as lists of runs and items."""
    rng = np.random.default_rng(seed)
    names = sorted(set(clusters))

    def draws(number):
        return rng.multinomial(number, [1 / number] * number, resamples)

    drawn = draws(len(names))
    trained = [draws(len(side)) for side in (first, second)]
    values = []
    for number in range(resamples):
        items = [
            item
            for name, times in zip(names, drawn[number], strict=True)
            for item in [i for i, c in enumerate(clusters) if c == name]
            * times
        ]
        means = []
        for side, counts in zip((first, second), trained, strict=True):
            runs = [
                side[p, run, item]
                for p, times in enumerate(counts[number])
                for _ in range(times)
                for run in range(side.shape[1])
                for item in items
            ]
            means.append(np.mean(runs))
        values.append(means[0] - means[1])
    return np.percentile(values, [2.5, 97.5])


def test_a_naive_loop():
    rng = np.random.default_rng(1)
    clusters = list('aabbbcddddde')
    first = rng.random((3, 2, 12))
    second = rng.random((2, 4, 12))
    estimate = bootstrap(first, second, clusters, resamples=200, seed=7)
    assert estimate.value == pytest.approx(first.mean() - second.mean())
    expected = naive(first, second, clusters, 200, 7)
    np.testing.assert_allclose(estimate[1:], expected, atol=1e-12)


def test_crossed_runs():
    """A naive loop: draws of labels are drawn alike for both sides."""
    rng = np.random.default_rng(1)
    first, second = rng.random((3, 4, 5)), rng.random((2, 4, 5))
    estimate = bootstrap(
        first, second, 'aabbc', crossed=True, resamples=100, seed=7
    )
    assert estimate.value == pytest.approx(first.mean() - second.mean())
    rng = np.random.default_rng(7)
    clusters, runs, *trained = (
        rng.multinomial(number, [1 / number] * number, 100)
        for number in (3, 4, 3, 2)
    )
    values = []
    for n in range(100):
        items = clusters[n][[0, 0, 1, 1, 2]]
        means = [
            np.mean(
                [
                    side[p, r, v]
                    for p in np.repeat(range(len(side)), counts[n])
                    for r in np.repeat(range(4), runs[n])
                    for v in np.repeat(range(5), items)
                ]
            )
            for side, counts in zip((first, second), trained, strict=True)
        ]
        values.append(means[0] - means[1])
    expected = np.percentile(values, [2.5, 97.5])
    np.testing.assert_allclose(estimate[1:], expected, atol=1e-12)
    # What the labels do to both sides alike is no uncertainty.
    shared = np.array([[[0.0], [9.0]]])
    np.testing.assert_allclose(
        bootstrap(shared + 1, shared, 'a', crossed=True), 1
    )
    assert bootstrap(shared, None, 'a', crossed=True) == (4.5, 0, 9)
    with pytest.raises(ValueError, match='as many on both sides'):
        bootstrap(first, second[:, :3], 'aabbc', crossed=True)


def test_scipy_agrees_where_every_item_is_a_cluster():
    values = np.random.default_rng(2).normal(size=60)
    ours = bootstrap(values[None, None], None, range(60), resamples=100_000)
    # SciPy has called it otherwise before 1.15.
    known = inspect.signature(stats.bootstrap).parameters
    name = 'rng' if 'rng' in known else 'random_state'
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        method='percentile',
        n_resamples=100_000,
        **{name: np.random.default_rng(0)},
    ).confidence_interval
    # Both are draws: the quantiles are off by some 0.003 of a deviation.
    np.testing.assert_allclose(ours[1:], theirs, atol=0.01 * values.std())


def test_clusters_count_once():
    """Copies of an item add nothing: the closed form of the mean."""
    values = np.random.default_rng(3).normal(size=400)
    copied, clusters = np.repeat(values, 9), np.repeat(range(400), 9)
    wide = bootstrap(copied[None, None], None, clusters)
    narrow = bootstrap(copied[None, None], None, range(3600))
    error = values.std() / 20
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert narrow.high - narrow.low == pytest.approx(
        2 * 1.96 * error / 3, rel=0.05
    )


def test_pairs():
    """What both sides share is no uncertainty."""
    rng = np.random.default_rng(4)
    shared = rng.normal(size=(1, 1, 50)) * 10
    estimate = bootstrap(shared + 1, shared, range(50))
    np.testing.assert_allclose(estimate, 1)


def test_pretrainings_are_drawn():
    runs = np.array([[[0.0]], [[1.0]]])
    assert bootstrap(runs, None, 'a') == (0.5, 0, 1)


@pytest.mark.parametrize('shape', [(3,), (1, 1, 4)])
def test_other_items_than_clusters(shape):
    with pytest.raises(ValueError, match=r'\(P, R, 3\)'):
        bootstrap(np.zeros(shape), None, 'abc')
