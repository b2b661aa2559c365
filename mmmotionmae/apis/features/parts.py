# Copyright (c) MotionMAE contributors. All rights reserved.
"""Features that are not complete, in memory or on disk."""

import fcntl
import json
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...utils.errors import UsageError
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
        """See :class:`FeatureSink`."""
        self.values[self.done : self.done + len(rows)] = rows
        self.bad |= bad
        self.done += len(rows)

    def add_bad(self, bad: dict[str, str]) -> None:
        """See :class:`FeatureSink`."""
        self.bad |= bad


class FileSink(FeatureSink):
    """Rows in a .npy file that grows, and a log of them; a context manager.

    ``<out>.part`` is the .npy file, ``<out>.part.log`` has a line of JSON for
    the card and one for each batch: how many rows there are with it, their
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
        self._log_path = out.with_name(f'{out.name}.part.log')
        self._shape, self._dtype = shape, dtype
        self._row_bytes = int(np.prod(shape[1:], dtype=int)) * dtype.itemsize
        self.done, self.bad = 0, {}
        out.parent.mkdir(parents=True, exist_ok=True)
        self._log = self._lock()
        try:
            self._open(card, overwrite)
        except BaseException:
            self._log.close()
            raise

    def __enter__(self) -> 'FileSink':
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._log.close()

    def _lock(self) -> BinaryIO:
        log = open(self._log_path, 'a+b')
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            log.close()
            raise UsageError(
                f'Another process is writing {self.path}: wait for it, or '
                'choose another name.'
            ) from error
        return log

    def _open(self, card: dict[str, Any], overwrite: bool) -> None:
        self._log.seek(0)
        lines = self._log.readlines()
        exists = self.path.exists()
        old = _parse(lines[0]) if lines and exists else None
        problem = old and find_differences(old, card)
        if problem and not overwrite:
            raise UsageError(
                f'{self.path} holds the beginning of other features '
                f'({problem}). Choose another name, or throw it away '
                '(overwrite).'
            )
        if not old or problem:
            self._log.truncate(0)
            self._file: BinaryIO = open(self.path, 'w+b')
            header = dict(
                descr=np.lib.format.dtype_to_descr(self._dtype),
                fortran_order=False,
                shape=self._shape,
            )
            np.lib.format.write_array_header_1_0(self._file, header)
            self._start = self._file.tell()
            self._file.flush()
            self._end = 0
            self._write_line(card)
            return
        self._file = open(self.path, 'r+b')
        np.lib.format.read_magic(self._file)
        np.lib.format.read_array_header_1_0(self._file)
        self._start = self._file.tell()
        self._end = len(lines[0])
        for line in lines[1:]:
            if not self._read_again(line):
                break
            self._end += len(line)

    def _read_again(self, line: bytes) -> bool:
        """Whether what a line of the log tells is there."""
        entry = _parse(line)
        if entry is None:
            return False
        if entry.get('stop', 0) > self.done:
            wanted = (entry['stop'] - self.done) * self._row_bytes
            self._file.seek(self._start + self.done * self._row_bytes)
            data = self._file.read(wanted)
            if len(data) != wanted or zlib.crc32(data) != entry['crc']:
                return False
            self.done = entry['stop']
        self.bad |= entry['bad']
        return True

    def add(self, rows: np.ndarray, bad: dict[str, str]) -> None:
        """See :class:`FeatureSink`."""
        data = np.ascontiguousarray(rows, self._dtype).tobytes()
        self._file.seek(self._start + self.done * self._row_bytes)
        self._file.write(data)
        self._file.flush()
        stop = self.done + len(rows)
        self._write_line(dict(stop=stop, crc=zlib.crc32(data), bad=bad))
        self.bad |= bad
        self.done = stop

    def add_bad(self, bad: dict[str, str]) -> None:
        """See :class:`FeatureSink`."""
        self._write_line(dict(bad=bad))
        self.bad |= bad

    def _write_line(self, entry: dict[str, Any]) -> None:
        # Where the last whole line ends: an error may have left half of one.
        line = json.dumps(entry).encode() + b'\n'
        self._log.truncate(self._end)
        self._log.write(line)
        self._log.flush()
        self._end += len(line)

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
        self._log_path.unlink(missing_ok=True)


def _parse(line: bytes) -> Any:
    """What a line says; None if it is not whole."""
    try:
        return json.loads(line) if line.endswith(b'\n') else None
    except ValueError:
        return None
