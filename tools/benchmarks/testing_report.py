# Copyright (c) MotionMAE contributors. All rights reserved.
"""Figures of the dense test, and a table of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .table import NAME, Column, Measured, Table, megabytes, quartiles, ratios

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
class Tests(Measured):
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

    def row(self, name: str) -> dict[str, Any]:
        """See the base class."""
        row: dict[str, Any] = dict(name=name)
        for part in ('total', *PARTS):
            seconds = self._seconds(name, part)
            row[part] = quartiles(seconds)
            row[f'{part}_ratio'] = ratios(
                self._seconds(self.stock, part), seconds
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
        table = Table(self.rows(), COLUMNS).markdown()
        return '\n\n'.join([f'**{self.title}**', table, NOTES])


COLUMNS = (
    NAME,
    Column('s/video', 'total', '.2f'),
    Column('x stock', 'total_ratio', '.2f'),
    Column('data, s', 'data', '.3f'),
    Column('data, x stock', 'data_ratio', '.2f'),
    Column('model, s', 'model', '.2f'),
    Column('model, x stock', 'model_ratio', '.2f'),
    Column('memory, MB', 'memory', megabytes, optional=True),
    Column('difference', 'difference', '.1g'),
)
