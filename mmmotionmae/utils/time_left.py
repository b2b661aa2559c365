# Copyright (c) MotionMAE contributors. All rights reserved.
"""Progress of long work for people: bars, and the time that is left."""

import sys
from typing import Any

from tqdm import tqdm

SLOW = 30.0  # seconds between two lines where there is no terminal


def progress_bar(
    total: int, unit: str, done: int = 0, show: bool = True, title: str = ''
) -> 'tqdm[Any]':
    """A bar with the time left, on stderr.

    On a terminal it is redrawn; elsewhere, in the log of a job say, it is a
    line every half minute.

    Args:
        total: How many there are to do.
        unit: What they are.
        done: How many are done already; they do not count for the speed.
        show: False: nothing is shown.
        title: Before the bar.

    Returns:
        A context; ``update(n)`` counts.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        unit=unit,
        desc=title or None,
        disable=not show,
        mininterval=0.1 if terminal else SLOW,
        maxinterval=10.0 if terminal else SLOW,
    )


def in_words(seconds: float) -> str:
    """A duration, such as ``45 s``, ``12 min`` or ``2 h 05 min``.

    Examples:
        >>> in_words(89), in_words(90), in_words(7500)
        ('89 s', '2 min', '2 h 05 min')
    """
    if round(seconds) < 90:
        return f'{round(seconds)} s'
    minutes = round(seconds / 60)
    if minutes < 100:
        return f'{minutes} min'
    return f'{minutes // 60} h {minutes % 60:02d} min'


def time_left(done: float, total: float, seconds: float) -> str:
    """The time that is left at the speed so far, in words.

    Args:
        done: What is done, in any unit.
        total: All there is to do, in the same.
        seconds: That it took.

    Returns:
        ``about 12 min left``; empty where nothing is done yet, or all.

    Examples:
        >>> time_left(1, 4, 30.0)
        'about 2 min left'
    """
    if done <= 0 or done >= total:
        return ''
    return f'about {in_words(seconds * (total - done) / done)} left'
