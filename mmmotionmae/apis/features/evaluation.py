# Copyright (c) MotionMAE contributors. All rights reserved.
"""Evaluation of features by k-NN and linear probe, and its report."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...evaluation.functional.accuracy import describe_accuracy
from ...utils.choices import METHODS, NEIGHBOURS, STRENGTHS
from ...utils.errors import UsageError
from ...utils.files import write_json
from ...utils.provenance import versions
from .classifiers import (
    FeatureTable,
    check_pair,
    make_splits,
    name_splits,
    read_table,
    run_knn,
    run_linear,
    tested_rows,
)
from .files import Features


def evaluate_features(
    train: Features | str | Path,
    test: Features | str | Path | None = None,
    *,
    methods: Sequence[str] = METHODS,
    blocks: Sequence[int] | None = None,
    neighbours: Sequence[int] = NEIGHBOURS,
    temperature: float = 0.07,
    strengths: Sequence[float] = STRENGTHS,
    folds: int | None = None,
    leave_one_out: bool = False,
    seed: int = 0,
    num_jobs: int = 1,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Classify videos by frozen features.

    k-NN is DINO's protocol, see :func:`knn_scores`; the linear probe is a
    logistic regression whose regularisation is chosen by cross-validation of
    the training features, see :func:`linear_probe`. Test features never have
    a part in a choice: all k are reported, and C is chosen without them.
    The same features give the same result each time.

    Args:
        train: Pooled features with labels, see :func:`extract_features`, or
            their file.
        test: Likewise, of the same model and settings; only the number of
            averaged views may differ. None: cross-validation of ``train``.
            Beware of videos that are cut from one: they stand on both sides.
        methods: ``'knn'``, ``'linear'``.
        blocks: Which of those in the files. Defaults to all.
        neighbours: Numbers k. Those larger than the training set are left
            out.
        temperature: Of the votes of the neighbours.
        strengths: C of the logistic regression to choose from.
        folds: Of the cross-validation. Defaults to 10.
        leave_one_out: Test each video on all others.
        seed: Of the division into folds.
        num_jobs: Processes for the choice of C; -1: one for each CPU.
        out: A .json for what is returned.
        overwrite: Replace it, if it exists.

    Returns:
        A dict for JSON. ``results``: for each block and classifier the
        accuracies, shares with 95 % intervals, see
        :func:`describe_accuracy`; ``notes``: what to know about them;
        ``settings``; ``train`` and ``test``: number of videos, bad ones
        (``left_out``), and the cards of the features.

    Raises:
        UsageError: If an argument is not as it should be, features cannot be
            classified (no labels, not pooled), do not go together, or test
            videos are of classes that training has nothing of.
        FileNotFoundError: If there is no such file.

    Examples:
        >>> values = np.eye(4, 3, dtype=np.float32)[[0, 0, 1, 1]]
        >>> labels = np.array([3, 3, 7, 7])
        >>> features = Features(values, list('abcd'), labels)
        >>> report = evaluate_features(
        ...     features, leave_one_out=True, methods=['knn'], neighbours=[1])
        >>> report['results'][0]['top1']
        1.0
    """
    _check_arguments(methods, neighbours, temperature, strengths)
    path = None if out is None else Path(out)
    if path is not None and path.exists() and not overwrite:
        raise UsageError(
            f'{path} exists already; choose another name, or write over it '
            '(overwrite).'
        )
    first = read_table(train, 'train', blocks)
    second = None if test is None else read_table(test, 'test', blocks)
    notes = _notes_on(first, second)
    if second is None:
        splits = make_splits(first.labels, folds, leave_one_out, seed)
        values, labels = first.values, first.labels
    else:
        if folds is not None or leave_one_out:
            raise UsageError(
                'Cross-validation is for one file of features, not two.'
            )
        check_pair(first, second)
        values = np.concatenate([first.values, second.values])
        labels = np.concatenate([first.labels, second.labels])
        rows = np.arange(len(labels))
        splits = [(rows[: len(first.labels)], rows[len(first.labels) :])]
    classes, labels = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(f'All videos are of one class, {classes[0]}.')
    results = []
    for number, block in enumerate(first.blocks):
        features = values[:, number]
        for method in methods:
            if method == 'knn':
                scored = run_knn(
                    features, labels, splits, neighbours, temperature, notes
                )
            else:
                scored = run_linear(
                    features, labels, splits, strengths, seed, num_jobs, notes
                )
            for found, scores in scored:
                tested = tested_rows(splits, len(labels))
                results.append(
                    dict(block=block, method=method)
                    | found
                    | describe_accuracy(scores, labels[tested])
                )
    report: dict[str, Any] = dict(
        results=results,
        notes=list(dict.fromkeys(notes)),
        settings=dict(
            neighbours=[*neighbours],
            temperature=temperature,
            strengths=[*strengths],
            splits='test features' if second else name_splits(splits),
            seed=seed,
            classes=len(classes),
            confidence=0.95,
        ),
        train=_describe(first),
        test=None if second is None else _describe(second),
        versions=versions('sklearn'),
        date=time.strftime('%Y-%m-%d %H:%M:%S %z'),
    )
    if path is not None:
        write_json(path, report)
    return report


def _check_arguments(
    methods: Sequence[str],
    neighbours: Sequence[int],
    temperature: float,
    strengths: Sequence[float],
) -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            'To evaluate features needs scikit-learn: '
            "pip install 'mmmotionmae[features]'."
        ) from error
    for method in methods:
        if method not in METHODS:
            raise UsageError(
                f'methods are {", ".join(METHODS)}, not {method!r}.'
            )
    if not neighbours or min(neighbours) < 1:
        raise UsageError('neighbours must be at least 1.')
    if not temperature > 0:
        raise UsageError(f'temperature must be above 0, not {temperature}.')
    if not strengths or min(strengths) <= 0:
        raise UsageError('strengths must be above 0.')


def _notes_on(first: FeatureTable, second: FeatureTable | None) -> list[str]:
    notes = []
    for table in (first, second):
        if table is not None and table.left_out:
            total = table.left_out + len(table.labels)
            notes.append(
                f'{table.source}: {table.left_out} of {total} videos could '
                'not be read and are left out'
            )
    if second is not None and (both := {*first.names} & {*second.names}):
        notes.append(
            f'{len(both)} names are in both files, such as {min(both)!r}'
        )
    if second is None:
        notes.append(
            'cross-validation: the intervals take the videos as independent, '
            'which the classifiers of different folds are not'
        )
    return notes


def _describe(table: FeatureTable) -> dict[str, Any]:
    return dict(
        source=table.source,
        videos=len(table.labels),
        left_out=table.left_out,
        card=table.card,
    )


def format_report(report: dict[str, Any]) -> str:
    """The results of :func:`evaluate_features` as a table, and the notes."""
    rows = [('block', 'classifier', 'top-1 (95 %)', 'top-5 (95 %)', 'classes')]
    for result in report['results']:
        block = result['block']
        rows.append(
            (
                '' if block is None else str(block),
                _classifier(result),
                _share(result, 'top1'),
                _share(result, 'top5') if 'top5' in result else '',
                f'{100 * result["mean_class"]:.1f}',
            )
        )
    columns = [
        [row[i] for row in rows]
        for i in range(len(rows[0]))
        if any(row[i] for row in rows[1:])
    ]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        '  '.join(
            cell.ljust(width)
            for cell, width in zip(cells, widths, strict=True)
        ).rstrip()
        for cells in zip(*columns, strict=True)
    ]
    lines.insert(1, '-' * max(map(len, lines)))
    train, test = report['train'], report['test']
    text = f'{train["videos"]} videos of {report["settings"]["classes"]}'
    if test is None:
        text += f' classes, {report["settings"]["splits"]}'
    else:
        text += f' classes to learn from, {test["videos"]} to test on'
    notes = [f'note: {note}' for note in report['notes']]
    return '\n'.join([text, '', *lines, *notes])


def _classifier(result: dict[str, Any]) -> str:
    if result['method'] == 'knn':
        return f'k-NN, k={result["neighbours"]}'
    first, last = result['strengths'][0], result['strengths'][-1]
    text = f'{first:g}' if first == last else f'{first:g} to {last:g}'
    return f'linear, C={text}'


def _share(result: dict[str, Any], name: str) -> str:
    share, low, high = (
        100 * result[key] for key in (name, f'{name}_low', f'{name}_high')
    )
    return f'{share:.1f} ({low:.1f} to {high:.1f})'
