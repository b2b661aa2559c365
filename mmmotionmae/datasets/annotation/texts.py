# Copyright (c) MotionMAE contributors. All rights reserved.
"""Text files, many lines at a time."""

import os.path as osp
from collections.abc import Iterator
from itertools import islice

from ...utils.errors import AnnotationError
from .kinds import kind_of

_PART = 20_000  # lines


def read_parts(ann_file: str) -> Iterator[tuple[int, list[str]]]:
    """Lines of a text, many at a time.

    Args:
        ann_file: UTF-8.

    Yields:
        The number of the first line, from 1, and lines as they are.

    Raises:
        FileNotFoundError: If there is no such file.
        AnnotationError: If it is no text in UTF-8.
    """
    if not osp.isfile(ann_file):
        raise FileNotFoundError(f'There is no annotation file {ann_file!r}.')
    number = 1
    try:
        with open(ann_file, encoding='utf-8-sig') as file:
            while lines := list(islice(file, _PART)):
                yield number, lines
                number += len(lines)
    except UnicodeDecodeError as error:
        raise _not_text(ann_file, error) from error


def read_lines(ann_file: str) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, stripped, with their numbers.

    Args:
        ann_file: See :func:`read_parts`, which also tells of errors.
    """
    for first, lines in read_parts(ann_file):
        for number, line in enumerate(lines, first):
            line = line.strip()
            if line:
                yield number, line


def _not_text(ann_file: str, error: UnicodeDecodeError) -> AnnotationError:
    """The error for a file that is not in UTF-8."""
    kind = kind_of(ann_file)
    if kind in ('video', 'picture'):
        return AnnotationError(f'{ann_file} is a {kind}, not a list.')
    number = 0
    with open(ann_file, 'rb') as file:
        for line in file:
            number += 1
            try:
                line.decode('utf-8')
            except UnicodeDecodeError as of_line:
                error = of_line
                break
    return AnnotationError(
        f'{ann_file} is not a text file in UTF-8: {ann_file}, line {number}: '
        f'{error}.'
    )
