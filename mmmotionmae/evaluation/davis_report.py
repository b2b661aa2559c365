# Copyright (c) MotionMAE contributors. All rights reserved.
"""Report of the scores of DAVIS: a table, CSV files and JSON."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..utils.files import complete_file
from .davis_scoring import MEASURES, SequenceScores, object_measures, summarize
from .functional.davis import FloatArray, ObjectScores, Statistics


def report_paths(out_dir: Path, split: str) -> tuple[Path, Path, Path]:
    """The files of :func:`write_report`: two CSV files and a JSON file."""
    return (
        out_dir / f'global_results-{split}.csv',
        out_dir / f'per-sequence_results-{split}.csv',
        out_dir / 'results.json',
    )


def write_report(
    scores: Sequence[SequenceScores],
    out_dir: Path,
    split: str = 'val',
    resize: tuple[int, int] | None = None,
) -> None:
    """Write all scores, over earlier ones.

    ``global_results-<split>.csv`` and ``per-sequence_results-<split>.csv``
    are those of the official program: shares of 1 with three decimals, J and
    F of each object as ``<sequence>_<id>``. That program takes such files for
    its own if they are in the folder with the masks: ``out_dir`` should be
    another one. ``results.json`` has all there is, in full, down to the
    values of each frame; NaN is null.

    Args:
        scores: The sequences.
        out_dir: Folder, made if missing.
        split: Part of the names, as in the official program.
        resize: At which size was scored, for ``results.json``.
    """
    global_path, object_path, json_path = report_paths(out_dir, split)
    summary = summarize(scores)
    _write_csv(global_path, MEASURES, [[summary[name] for name in MEASURES]])
    rows: list[list[str | float]] = []
    for name, item in _objects(scores):
        region, boundary = item.statistics()
        rows.append([name, region.mean, boundary.mean])
    _write_csv(object_path, ('Sequence', 'J-Mean', 'F-Mean'), rows)
    document = dict(
        split=split,
        resize=resize,
        metrics=_measures_json(summary),
        sequences=[_sequence_json(item) for item in scores],
    )
    with complete_file(json_path) as temporary:
        temporary.write_text(
            json.dumps(document, indent=1, allow_nan=False), encoding='utf-8'
        )


def _objects(
    scores: Sequence[SequenceScores],
) -> list[tuple[str, ObjectScores]]:
    """All objects with their official names."""
    return [
        (f'{sequence.sequence}_{number}', item)
        for sequence in scores
        for number, item in enumerate(sequence.objects, 1)
    ]


def _write_csv(
    path: Path, header: Sequence[str], rows: list[list[Any]]
) -> None:
    """Write a CSV file as pandas does with ``float_format='%.3f'``."""

    def text(value: str | float) -> str:
        if isinstance(value, str):
            return value
        return '' if math.isnan(value) else f'{value:.3f}'

    with complete_file(path) as temporary:
        with open(temporary, 'w', encoding='utf-8', newline='') as file:
            writer = csv.writer(file, lineterminator='\n')
            writer.writerow(header)
            writer.writerows([text(value) for value in row] for row in rows)


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _measures_json(summary: dict[str, float]) -> dict[str, float | None]:
    return {name: _null(value) for name, value in summary.items()}


def _sequence_json(item: SequenceScores) -> dict[str, Any]:
    objects = []
    for number, scored in enumerate(item.objects, 1):
        region, boundary = scored.statistics()
        objects.append(
            dict(
                id=number,
                J=_values_json(region, scored.region),
                F=_values_json(boundary, scored.boundary),
            )
        )
    return dict(
        sequence=item.sequence,
        metrics=_measures_json(summarize([item])),
        frames=item.frames,
        objects=objects,
        ignored_ids=item.ignored_ids,
    )


def _values_json(stats: Statistics, values: FloatArray) -> dict[str, Any]:
    summary = {name: _null(value) for name, value in stats._asdict().items()}
    return dict(summary, per_frame=values.tolist())


def format_table(scores: Sequence[SequenceScores]) -> str:
    """All objects and their mean as text, in per cent.

    Args:
        scores: The sequences.

    Returns:
        Lines without a line break at the end; a value that is not there is
        ``-``.
    """
    rows = [(name, object_measures(item)) for name, item in _objects(scores)]
    summary = summarize(scores)
    total = (
        f'{summary["num_objects"]} objects, '
        f'{summary["num_sequences"]} sequences'
    )
    rows.append((total, [summary[name] for name in MEASURES]))
    width = max(len(name) for name, _ in rows)
    lines = [' '.join([f'{"":{width}}', *(f'{m:>8}' for m in MEASURES)])]
    for name, values in rows:
        cells = ('-' if math.isnan(v) else f'{100 * v:.1f}' for v in values)
        lines.append(
            ' '.join([f'{name:{width}}', *(f'{cell:>8}' for cell in cells)])
        )
    rule = '-' * len(lines[0])
    return '\n'.join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def list_oddities(scores: Sequence[SequenceScores]) -> list[str]:
    """Oddities that a reader of the scores should know, in sentences."""
    oddities = []
    for item in scores:
        if not item.objects:
            oddities.append(
                f'{item.sequence} is in no mean: no object is in the first '
                'ground truth.'
            )
        elif not item.frames:
            oddities.append(
                f'{item.sequence} is in no mean: the first and the last frame '
                'are not scored, and it has no others.'
            )
        else:
            if item.empty:
                oddities.append(
                    f'{item.sequence}: no mask has an object, all are empty.'
                )
            if item.gt_empty:
                oddities.append(
                    f'{item.sequence}: after the first frame the ground truth '
                    'is empty.'
                )
    ignored = [
        f'{item.sequence} {item.ignored_ids}'
        for item in scores
        if item.ignored_ids
    ]
    if ignored:
        oddities.append(
            'These values in masks are no objects of the first frame and '
            f'count as background: {", ".join(ignored)}.'
        )
    return oddities
