# Copyright (c) MotionMAE contributors. All rights reserved.
"""Features and labels that a classifier can take.

Shapes: N videos, K blocks, width D, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import UsageError
from .card import compare_kinds
from .files import Features, read_features


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
