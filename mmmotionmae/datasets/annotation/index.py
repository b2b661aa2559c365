# Copyright (c) MotionMAE contributors. All rights reserved.
"""Lists, opened: entries that are made when they are asked for."""

import json
import mmap
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...utils.errors import AnnotationError
from .building import MAGIC, MISSING
from .layout import Layout
from .tables import read_rows


class VideoList:
    """The entries of a list, in the memory of a file that processes share.

    Args:
        data: An index as :class:`Builder` writes it.
        path: The file that it is mapped from; '' if it is none.

    Attributes:
        facts (dict): What is known of all entries together.
        source (dict): The list as a file, when the index was made.

    Raises:
        ValueError: If it is no complete index.
    """

    def __init__(self, data: bytes | mmap.mmap, path: str = '') -> None:
        if len(data) < 16 or data[:8] != MAGIC:
            raise ValueError('this is no index of a list')
        begin = 16 + int.from_bytes(data[8:16], 'little')
        if len(data) < begin:
            raise ValueError('the index is not complete')
        head = json.loads(data[16:begin])
        if len(data) != begin + head['bytes']:
            raise ValueError('the index is not complete')
        self.path, self._data = path, data
        self.facts: dict[str, Any] = head['facts']
        self.source: dict[str, Any] = head['source']
        self.layout: dict[str, Any] = head['layout']
        self._size: int = head['size']
        self._columns = {
            name: np.frombuffer(
                data, dtype, size // np.dtype(dtype).itemsize, begin + place
            )
            for name, (dtype, place, size) in head['columns'].items()
        }

    @classmethod
    def open(cls, path: str) -> 'VideoList':
        """Map an index into memory.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no complete index.
        """
        with open(path, 'rb') as file:
            if os.fstat(file.fileno()).st_size < 16:
                raise ValueError('the index is not complete')
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(data, path)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path:
            return _open_again, (self.path, self.source)
        return VideoList, (bytes(self._data),)

    def __len__(self) -> int:
        return self._size

    def path_of(self, row: int) -> str:
        """The path of an entry, as it is written."""
        ends, paths = self._columns['ends'], self._columns['paths']
        start = int(ends[row - 1]) if row else 0
        return paths[start : int(ends[row])].tobytes().decode()

    def label_of(self, row: int) -> Any:
        """The label of an entry, -1 without one; or its list of labels."""
        labels = self._columns['labels']
        if 'label_ends' in self._columns:
            ends = self._columns['label_ends']
            start = int(ends[row - 1]) if row else 0
            return labels[start : int(ends[row])].tolist()
        return int(labels[row]) if len(labels) else -1

    def entry(self, row: int) -> dict[str, Any]:
        """An entry.

        Args:
            row: From 0.

        Returns:
            ``path``; ``label``; if it has them ``offset``, ``start_index``,
            ``total_frames``; and of a clip ``clip_start``
            and ``clip_end``, numbers, and ``clip_unit``.
        """
        found = dict(path=self.path_of(row), label=self.label_of(row))
        for name in ('offset', 'start_index', 'total_frames'):
            if name in self._columns:
                value = int(self._columns[name][row])
                if value != MISSING:
                    found[name] = value
        if 'start' in self._columns:
            start = float(self._columns['start'][row])
            if start == start:  # not NaN: there is a clip
                found['clip_start'] = start
                found['clip_end'] = float(self._columns['end'][row])
                found['clip_unit'] = self.facts['clip_unit']
        return found

    def entries(self) -> Iterator[dict[str, Any]]:
        """All entries."""
        return map(self.entry, range(len(self)))

    def check_classes(
        self, ann_file: str, layout: Layout, num_classes: int | None
    ) -> None:
        """Make sure that labels are of so many classes.

        Args:
            ann_file: The list, for the message.
            layout: Of the list.
            num_classes: Every entry has to have a label, and all labels are
                from 0 on and below that. None: anything will do.

        Raises:
            AnnotationError: If one is not, or is missing.
        """
        facts = self.facts
        if num_classes is None:
            return
        missing = None if layout.multi_class else facts['unlabelled']
        low, high = facts['label_min'], facts['label_max']
        if missing is None and (low is None or 0 <= low <= high < num_classes):
            return
        for row in read_rows(ann_file, layout):
            wrong = [x for x in row.labels if not 0 <= x < num_classes]
            if wrong or not (row.labels or layout.multi_class):
                has = f'the label {wrong[0]}' if wrong else 'no label'
                raise AnnotationError(
                    f'{ann_file}, line {row.number} has {has}; there are '
                    f'{num_classes} classes, from 0: {row.text!r}.'
                )


def _open_again(path: str, source: dict[str, Any]) -> VideoList:
    """In another process: the same index."""
    try:
        again = VideoList.open(path)
    except (OSError, ValueError) as error:
        raise AnnotationError(
            f'{path}, the index of the list that this run began with, cannot '
            f'be read any more: {error}. Start the run again.'
        ) from error
    if again.source != source:
        raise AnnotationError(
            f'The list of {path} has changed since this run began. Start the '
            'run again, with --resume to go on.'
        )
    return again
