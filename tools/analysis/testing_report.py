# Copyright (c) MotionMAE contributors. All rights reserved.
"""Figures of the dense test, and a table of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from benchmark_figures import quartiles, spread, table
from model_report import MB

Round = dict[str, float]  # seconds of a video, for each of PARTS
PARTS = ('data', 'model')

NOTES = (
    'One video a step, all its views; all take turns in one process. Seconds '
    'of a video: median and quartiles over the rounds. x: times as fast as '
    'stock MMAction2; medians and quartiles of the ratios within a round. '
    'data: from the file to the batch, in the process of the model. Memory: '
    'what tensors of a test step add at their peak to the weights and the '
    'loaded batch. Difference: the largest of a probability from stock, over '
    'all rounds.'
)


@dataclass
class Measured:
    """What was measured.

    Attributes:
        title: What was tested, for a reader.
        stock: Name of the one that others are compared with.
        rounds: For each contender its rounds.
        differences: For each its largest difference of a probability from
            stock.
        memory: For each the bytes that a step adds at its peak, where that is
            measured.
    """

    title: str
    stock: str
    rounds: dict[str, list[Round]]
    differences: dict[str, float]
    memory: dict[str, int] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """The figures of each contender; lower quartile, median, upper."""
        return [self._row(name) for name in self.rounds]

    def _row(self, name: str) -> dict[str, Any]:
        row: dict[str, Any] = dict(name=name)
        for part in ('total', *PARTS):
            seconds = self._seconds(name, part)
            row[part] = quartiles(seconds)
            row[f'{part}_ratio'] = quartiles(
                self._seconds(self.stock, part) / seconds
            )
        row['difference'] = self.differences[name]
        row['memory'] = self.memory.get(name)
        return row

    def _seconds(self, name: str, part: str) -> np.ndarray:
        parts = PARTS if part == 'total' else (part,)
        return np.array([sum(r[p] for p in parts) for r in self.rounds[name]])

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return dict(
            title=self.title,
            stock=self.stock,
            rows=self.rows(),
            rounds=self.rounds,
        )

    def markdown(self) -> str:
        """A table, with what must be known to read it."""
        head = ['', 's/video', 'x stock', 'data, s', 'data, x stock']
        head += ['model, s', 'model, x stock']
        if self.memory:
            head.append('memory, MB')
        head.append('difference')
        body = []
        for row in self.rows():
            cells = [row['name']]
            for part, digits in (('total', 2), ('data', 3), ('model', 2)):
                cells.append(spread(row[part], digits))
                cells.append(spread(row[f'{part}_ratio']))
            if self.memory:
                cells.append(f'{row["memory"] / MB:.0f}')
            body.append([*cells, f'{row["difference"]:.1g}'])
        return '\n\n'.join([f'**{self.title}**', table(head, body), NOTES])
