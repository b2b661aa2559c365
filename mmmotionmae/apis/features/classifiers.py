# Copyright (c) MotionMAE contributors. All rights reserved.
"""Classifiers of features, on test features or in a cross-validation.

Shapes: N videos, M of them tested, K blocks, width D, C classes.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...evaluation.functional.knn import knn_scores
from ...evaluation.functional.linear_probe import linear_probe
from ...utils.errors import UsageError
from .files import Features, compare_kinds, read_features


@dataclass(frozen=True)
class FeatureTable:
    """Readable videos with labels.

    Attributes:
        values: (N, K, D), float32.
        labels: (N, ), int64, as in the list.
        blocks: K numbers; None where it is not known which it is.
        names: N.
        left_out: How many videos could not be read.
        card: See :class:`Features`; empty if unknown.
        source: The file, or what stands for it.
    """

    values: np.ndarray
    labels: np.ndarray
    blocks: tuple[int | None, ...]
    names: list[str]
    left_out: int
    card: dict[str, Any]
    source: str


def read_table(
    features: Features | str | Path,
    role: str,
    blocks: Sequence[int] | None = None,
) -> FeatureTable:
    """Take what a classifier needs.

    Args:
        features: Pooled features, or their file.
        role: ``'train'`` or ``'test'``.
        blocks: Which of those that there are. Defaults to all.

    Raises:
        UsageError: If they have no labels, are not pooled, have several views
            of each video, or lack a block.
        FileNotFoundError: If there is no such file.
    """
    source = f'the {role} features'
    if not isinstance(features, Features):
        source = str(features)
        features = read_features(features)
    if features.labels is None:
        raise UsageError(
            f'{source} has no labels: extract features of a list that has '
            'some.'
        )
    values, known = features.values, features.card.get('fingerprint')
    stored: Any = known['features']['block'] if known else None
    if known and known['features']['pooling'] != 'mean':
        raise UsageError(
            f'{source} holds maps of tokens '
            f'(pooling={known["features"]["pooling"]!r}): extract features '
            "with pooling='mean'."
        )
    if known and known['features']['views'] != 'mean':
        raise UsageError(
            f'{source} holds each view of a video: extract features with '
            "views='mean'."
        )
    if not isinstance(stored, list):
        stored, values = [stored], np.asarray(values[:])[:, None]
    if values.ndim != 3:
        raise UsageError(
            f'{source} has features of shape {values.shape[1:]}; a '
            'classifier takes one vector of each video.'
        )
    chosen = [*range(len(stored))]
    if blocks is not None:
        missing = [block for block in blocks if block not in stored]
        if missing:
            raise UsageError(
                f'{source} has no block {missing[0]}; it has '
                f'{", ".join(map(str, stored))}.'
            )
        chosen = [stored.index(block) for block in blocks]
    table = np.asarray(values[:], np.float32)[:, chosen]
    readable = ~np.isnan(table).any((1, 2))
    if not readable.any():
        raise UsageError(f'{source} has no video that could be read.')
    return FeatureTable(
        table[readable],
        features.labels[readable],
        tuple(stored[i] for i in chosen),
        [n for n, r in zip(features.names, readable, strict=True) if r],
        int((~readable).sum()),
        features.card,
        source,
    )


def check_pair(train: FeatureTable, test: FeatureTable) -> None:
    """Make sure that one can be tested on what the other has taught.

    Raises:
        UsageError: If they are not of one kind, or of the same videos, or
            the test videos are of classes that training has nothing of.
    """
    if train.card and test.card:
        difference = compare_kinds(train.card, test.card)
        if train.blocks != test.blocks:
            difference = f'blocks: {train.blocks} -> {test.blocks}'
        if difference:
            raise UsageError(
                f'{train.source} and {test.source} hold features of '
                f'different kinds ({difference}): extract both with the same '
                'model and settings.'
            )
        videos = [t.card['fingerprint']['videos'] for t in (train, test)]
        if videos[0] == videos[1]:
            raise UsageError(
                f'{train.source} and {test.source} are of the same videos: '
                'give one of them alone for a cross-validation.'
            )
    if train.values.shape[1:] != test.values.shape[1:]:
        raise UsageError(
            f'{train.source} has features of shape '
            f'{train.values.shape[1:]}, {test.source} of '
            f'{test.values.shape[1:]}.'
        )
    unknown = np.setdiff1d(test.labels, train.labels).tolist()
    if unknown:
        shown = ', '.join(map(str, unknown[:10]))
        more = f' and {len(unknown) - 10} more' if len(unknown) > 10 else ''
        raise UsageError(
            f'{test.source} has labels that {train.source} has no video of: '
            f'{shown}{more}.'
        )


# Rows to learn from, and to be tested on; None: each on all others.
Split = tuple[np.ndarray, np.ndarray | None]


def make_splits(
    labels: np.ndarray, folds: int | None, leave_one_out: bool, seed: int
) -> list[Split]:
    """Divide videos for a cross-validation.

    Args:
        labels: (N, ).
        folds: How many. None: 10.
        leave_one_out: In place of them.
        seed: Of the division.

    Returns:
        For each fold the rows to learn from and those to be tested on.

    Raises:
        UsageError: If there cannot be so many folds.
    """
    from sklearn.model_selection import StratifiedKFold

    rows = np.arange(len(labels))
    if leave_one_out:
        if folds is not None:
            raise UsageError('Choose folds or leave_one_out, not both.')
        return [(rows, None)]
    folds = 10 if folds is None else folds
    largest = int(np.unique(labels, return_counts=True)[1].max())
    if not 2 <= folds <= largest:
        raise UsageError(
            f'folds must be from 2 to the {largest} videos of the largest '
            f'class, not {folds}.'
        )
    with warnings.catch_warnings():  # of classes smaller than that
        warnings.simplefilter('ignore')
        division = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return list(division.split(rows, labels))


def name_splits(splits: list[Split]) -> str:
    """Name of a cross-validation, for reports."""
    if splits[0][1] is None:
        return 'leave one out'
    return f'{len(splits)} folds'


def tested_rows(splits: list[Split], total: int) -> np.ndarray:
    """The rows that scores are of, in their order."""
    if splits[0][1] is None:
        return np.arange(total)
    return np.concatenate([rows for _, rows in splits if rows is not None])


def run_knn(
    features: np.ndarray,
    labels: np.ndarray,
    splits: list[Split],
    neighbours: Sequence[int],
    temperature: float,
    notes: list[str],
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Let neighbours vote.

    Args:
        features: (N, D).
        labels: (N, ), in [0, C).
        splits: Which of them to learn from, and to be tested on.
        neighbours: Numbers k.
        temperature: Of the votes.
        notes: What to know is added to these.

    Yields:
        For each k what is to be told of it, and the scores of the rows that
        are tested, (M, C).

    Raises:
        UsageError: If there are fewer videos than neighbours.
    """
    most = min(len(rows) - (other is None) for rows, other in splits)
    used = [k for k in neighbours if k <= most]
    if not used:
        raise UsageError(
            f'There are {most} videos to learn from, fewer than '
            f'{min(neighbours)} neighbours: choose fewer neighbours.'
        )
    if len(used) < len(neighbours):
        large = ', '.join(str(k) for k in neighbours if k > most)
        notes.append(
            f'k-NN: only {most} videos to learn from, no k of {large}'
        )
    num_classes = int(labels.max()) + 1
    parts = [
        knn_scores(
            features[rows],
            labels[rows],
            None if other is None else features[other],
            used,
            num_classes,
            temperature,
        )
        for rows, other in splits
    ]
    for k in used:
        yield dict(neighbours=k), np.concatenate([part[k] for part in parts])


def run_linear(
    features: np.ndarray,
    labels: np.ndarray,
    splits: list[Split],
    strengths: Sequence[float],
    seed: int,
    num_jobs: int,
    notes: list[str],
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Train a linear probe on each split.

    Args:
        features: (N, D).
        labels: (N, ), in [0, C).
        splits: Which of them to learn from, and to be tested on.
        strengths: C to choose from.
        seed: Of the choice.
        num_jobs: Processes for the choice.
        notes: What to know is added to these.

    Yields:
        Once, what is to be told of it, and the scores of the rows that are
        tested, (M, C).

    Raises:
        UsageError: If nothing can be learnt or chosen.
    """
    if splits[0][1] is None:
        rows = splits[0][0]
        splits = [(np.delete(rows, row), rows[row : row + 1]) for row in rows]
    num_classes = int(labels.max()) + 1
    try:
        probes = [
            linear_probe(
                features[rows],
                labels[rows],
                features[other],
                num_classes,
                tuple(sorted(strengths)),
                seed=seed,
                num_jobs=num_jobs,
            )
            for rows, other in splits
        ]
    except ValueError as error:
        raise UsageError(str(error)) from error
    chosen = sorted({probe.strength for probe in probes})
    ends = {min(strengths), max(strengths)}
    if len(strengths) > 1 and ends & {*chosen}:
        notes.append(
            'linear probe: C is the smallest or largest of those to choose '
            'from; others may be better'
        )
    if not all(probe.converged for probe in probes):
        notes.append('linear probe: the optimiser has not come to its end')
    accuracies = [p.accuracy for p in probes if p.accuracy is not None]
    yield (
        dict(
            strengths=chosen,
            validation=float(np.mean(accuracies)) if accuracies else None,
        ),
        np.concatenate([probe.scores for probe in probes]),
    )
