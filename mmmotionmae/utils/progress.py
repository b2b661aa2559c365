# Copyright (c) MotionMAE contributors. All rights reserved.
"""Progress of work that may be interrupted: whose it is, and its records."""

import fcntl
import json
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import UsageError
from .files import write_json
from .provenance import find_differences

CARD = 'card.json'


def claim_folder(folder: Path, card: dict[str, Any], in_use: bool) -> str:
    """Make sure that the results in a folder are those of a card.

    Args:
        folder: Gets a ``card.json`` if it has none, and is made if missing.
        card: Provenance of the results, see
            :func:`mmmotionmae.utils.provenance.make_card`.
        in_use: Whether there are results already.

    Returns:
        Why the results are of something else; empty if they are not.
    """
    path = folder / CARD
    if path.exists():
        old = json.loads(path.read_text(encoding='utf-8'))
        return find_differences(old, card)
    if in_use:
        return f'there is no {CARD} that says what made them'
    write_json(path, card)
    return ''


class RecordFile:
    """Records in a file that grows, each with a checksum.

    A record is a line of JSON and, if that has an entry ``bytes``, as many
    bytes after it. What a crash has left half written is not a record; it
    and all that follows is overwritten by the next one.

    Args:
        path: The file, made if it is missing, and its folder, too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(path, 'a+b')
        self._end = 0

    def __enter__(self) -> 'RecordFile':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def lock(self) -> None:
        """Keep other processes out until this one ends or closes the file.

        Raises:
            UsageError: If another one has locked it.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f'Another process is writing {self.path}: wait for it, or '
                'choose another name.'
            ) from error

    def read(self) -> Generator[tuple[dict[str, Any], bytes], None, None]:
        """Read the records; the next one is added after them.

        Yields:
            The entries of a record, and its bytes. If the caller stops at
            one, that does not count, and is overwritten as well.
        """
        self._file.seek(0)
        self._end = 0
        for record in read_records(self._file):
            yield record
            self._end = self._file.tell()

    def add(self, entry: dict[str, Any], data: bytes = b'') -> None:
        """Add a record to those that were read or added.

        Args:
            entry: For JSON; neither ``bytes`` nor ``crc`` is among the names.
            data: Bytes that belong to it.
        """
        if data:
            entry = dict(entry, bytes=len(data))
        line = json.dumps(dict(entry, crc=_checksum(entry, data)))
        self._file.truncate(self._end)
        self._file.write(line.encode() + b'\n' + data)
        self._file.flush()
        self._end = self._file.tell()

    def close(self) -> None:
        """Close the file, which unlocks it."""
        self._file.close()


def read_records(file: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Read the records of a :class:`RecordFile`, up to the first broken one.

    Args:
        file: Opened at the first record.

    Yields:
        The entries of a record, and its bytes.
    """
    while (line := file.readline()).endswith(b'\n'):
        try:
            entry = json.loads(line)
            crc = entry.pop('crc')
            data = file.read(entry.get('bytes', 0))
        except (AttributeError, KeyError, TypeError, ValueError):
            return  # no record, whatever it is
        if crc != _checksum(entry, data):
            return
        entry.pop('bytes', None)
        yield entry, data


def _checksum(entry: dict[str, Any], data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(json.dumps(entry).encode()))
