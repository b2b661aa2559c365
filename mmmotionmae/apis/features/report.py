# Copyright (c) MotionMAE contributors. All rights reserved.
from typing import Any


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
