# Copyright (c) MotionMAE contributors. All rights reserved.
"""Features that are not complete, in memory or on disk."""

import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...utils.errors import UsageError
from ...utils.progress import RecordFile
from ...utils.provenance import find_differences


class FeatureSink(ABC):
    """Takes rows in their order.

    Attributes:
        done: How many rows there are.
        bad: The bad videos among them, with reasons.
    """

    done: int
    bad: dict[str, str]

    @abstractmethod
    def add(self, rows: np.ndarray, bad: dict[str, str]) -> None:
        """Add the next rows, and what videos of them are bad."""

    @abstractmethod
    def add_bad(self, bad: dict[str, str]) -> None:
        """Note bad videos whose rows are still to come."""


class MemorySink(FeatureSink):
    """Rows in an array.

    Args:
        shape: Of all rows together.
        dtype: Of the array.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.values = np.empty(shape, dtype)
        self.done = 0
        self.bad = {}

    def add(self, rows: np.ndarray, bad: dict[str, str]) -> None:
        """Add the next rows, and what videos of them are bad."""
        self.values[self.done : self.done + len(rows)] = rows
        self.bad |= bad
        self.done += len(rows)

    def add_bad(self, bad: dict[str, str]) -> None:
        """Note bad videos whose rows are still to come."""
        self.bad |= bad


class FileSink(FeatureSink):
    """Rows in a .npy file that grows, and a log of them; a context manager.

    ``<out>.part`` is the .npy file, ``<out>.part.log`` has a record for the
    card and one for each batch: how many rows there are with it, their
    CRC-32, and the bad videos. What a run that was killed has left is read
    again, and the rows that are whole count.

    Args:
        out: The file that it will become.
        card: What makes the values, see :class:`Features`.
        shape: Of all rows together.
        dtype: Of the values.
        overwrite: Whether rows of something else may be thrown away.

    Raises:
        UsageError: If there are rows of something else, or another process
            writes here.
    """

    def __init__(
        self,
        out: Path,
        card: dict[str, Any],
        shape: tuple[int, ...],
        dtype: np.dtype,
        overwrite: bool,
    ) -> None:
        self.path = out.with_name(f'{out.name}.part')
        self._shape, self._dtype = shape, dtype
        self._row_bytes = int(np.prod(shape[1:], dtype=int)) * dtype.itemsize
        self.done, self.bad = 0, {}
        self._log = RecordFile(out.with_name(f'{out.name}.part.log'))
        try:
            self._log.lock()
            self._open(card, overwrite)
        except BaseException:
            self._log.close()
            raise

    def __enter__(self) -> 'FileSink':
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._log.close()

    def _open(self, card: dict[str, Any], overwrite: bool) -> None:
        records = self._log.read()
        old = None
        if self.path.exists():
            old, _ = next(records, (None, b''))
        problem = old and find_differences(old, card)
        if problem and not overwrite:
            raise UsageError(
                f'{self.path} holds the beginning of other features '
                f'({problem}). Choose another name, or throw it away '
                '(overwrite).'
            )
        if old and not problem:
            self._file: BinaryIO = open(self.path, 'r+b')
            np.lib.format.read_magic(self._file)
            np.lib.format.read_array_header_1_0(self._file)
            self._start = self._file.tell()
            for entry, _ in records:
                if not self._read_again(entry):
                    break
            return
        records.close()
        self._file = open(self.path, 'w+b')
        header = dict(
            descr=np.lib.format.dtype_to_descr(self._dtype),
            fortran_order=False,
            shape=self._shape,
        )
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        self._file.flush()
        self._log.add(card)

    def _read_again(self, entry: dict[str, Any]) -> bool:
        """Count the rows of a record, unless they are not there."""
        if entry.get('stop', 0) > self.done:
            wanted = (entry['stop'] - self.done) * self._row_bytes
            self._file.seek(self._start + self.done * self._row_bytes)
            data = self._file.read(wanted)
            if len(data) != wanted or zlib.crc32(data) != entry['rows_crc']:
                return False
            self.done = entry['stop']
        self.bad |= entry['bad']
        return True

    def add(self, rows: np.ndarray, bad: dict[str, str]) -> None:
        """Write the next rows, then a record of them."""
        data = np.ascontiguousarray(rows, self._dtype).tobytes()
        self._file.seek(self._start + self.done * self._row_bytes)
        self._file.write(data)
        self._file.flush()
        stop = self.done + len(rows)
        self._log.add(dict(stop=stop, rows_crc=zlib.crc32(data), bad=bad))
        self.bad |= bad
        self.done = stop

    def add_bad(self, bad: dict[str, str]) -> None:
        """Note bad videos, in the log."""
        self._log.add(dict(bad=bad))
        self.bad |= bad

    def close_complete(self) -> Path:
        """Close the file, which has all rows.

        Returns:
            Its path. :meth:`remove` is to follow once it has its name.
        """
        self._file.truncate(self._start + self.done * self._row_bytes)
        self._file.close()
        return self.path

    def remove(self) -> None:
        """Leave nothing behind."""
        self.path.unlink(missing_ok=True)
        self._log.path.unlink(missing_ok=True)
