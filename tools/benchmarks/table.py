# Copyright (c) MotionMAE contributors. All rights reserved.
"""Tables in Markdown of what was measured, round by round."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Values = Sequence[float] | np.ndarray
Row = Mapping[str, Any]


def quartiles(values: Values) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(q) for q in np.percentile(values, [25, 50, 75])]


def ratios(values: Values, others: Values) -> list[float]:
    """Quartiles of the ratios within a round."""
    return quartiles(np.divide(values, others))


class Measured(ABC):
    """Figures of entrants that took turns.

    Attributes:
        rounds: What was measured of each, by its name: one for each round.
    """

    rounds: dict[str, list[Any]]

    def rows(self) -> list[dict[str, Any]]:
        """The figures of each."""
        return [self.row(name) for name in self.rounds]

    @abstractmethod
    def row(self, name: str) -> dict[str, Any]:
        """The figures of one, for table and JSON file."""

    def part(self, name: str, part: str) -> np.ndarray:
        """One part of what was measured, in each round."""
        return np.array([found[part] for found in self.rounds[name]])


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: At its top.
        value: Where a row has it: a key, keys within each other, or a
            function. None gives an empty cell, three numbers are quartiles.
        form: A number's, as for ``format``; or a function.
        optional: Whether it is left out if all its cells are empty.
    """

    title: str
    value: str | tuple[str, ...] | Callable[[Row], Any]
    form: str | Callable[[Any], str] = ''
    optional: bool = False

    def cell(self, row: Row) -> str:
        """The text in a row: ``median (lower to upper)`` of quartiles."""
        value = self._find(row)
        if value is None:
            return ''
        if isinstance(value, Sequence) and not isinstance(value, str):
            low, middle, high = map(self._write, value)
            return f'{middle} ({low} to {high})'
        return self._write(value)

    def _find(self, row: Row) -> Any:
        if callable(self.value):
            return self.value(row)
        found: Any = row
        keys = self.value if isinstance(self.value, tuple) else (self.value,)
        for key in keys:
            found = None if found is None else found.get(key)
        return found

    def _write(self, value: Any) -> str:
        if callable(self.form):
            return self.form(value)
        return format(value, self.form)


@dataclass(frozen=True)
class Table:
    """Rows of figures, and what is shown of them.

    Attributes:
        rows: The figures.
        columns: All but the first are aligned right.
    """

    rows: Sequence[Row]
    columns: Sequence[Column]

    def markdown(self) -> str:
        """A line for each row, below the titles."""
        columns = [[c.cell(row) for row in self.rows] for c in self.columns]
        shown = [
            (column.title, cells)
            for column, cells in zip(self.columns, columns, strict=True)
            if any(cells) or not column.optional
        ]
        lines = [
            [title for title, _ in shown],
            ['---'] + ['---:'] * (len(shown) - 1),
            *zip(*(cells for _, cells in shown), strict=True),
        ]
        return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def megabytes(size: int) -> str:
    """Bytes as megabytes, for a table."""
    return f'{size / 1e6:.0f}'


NAME = Column('', 'name')
MEMORY = (
    Column('memory, MB', ('memory', 'tensors'), megabytes, optional=True),
    Column(
        'resident memory, MB', ('memory', 'resident'), megabytes, optional=True
    ),
)
