# Copyright (c) MotionMAE contributors. All rights reserved.
"""Quartiles and Markdown tables."""

from collections.abc import Sequence

import numpy as np


def quartiles(values: Sequence[float] | np.ndarray) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(q) for q in np.percentile(values, [25, 50, 75])]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """``median (lower to upper)`` of three quartiles, for a table."""
    low, middle, high = (f'{value:.{digits}f}' for value in values)
    return f'{middle} ({low} to {high})'


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned right."""
    lines = [head, ['---'] + ['---:'] * (len(head) - 1), *body]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
