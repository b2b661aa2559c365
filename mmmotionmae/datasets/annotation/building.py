# Copyright (c) MotionMAE contributors. All rights reserved.
"""Indexes of lists: built once, line by line, with all checks."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...utils.errors import AnnotationError
from .layout import Layout, Row
from .tables import form_of, parse_part, read_rows
from .texts import read_parts

MAGIC = b'MMMLIST1'
ALIGNMENT = 64
MISSING = np.iinfo(np.int64).min  # of a whole number

_BATCH = 20_000  # lines
_IN_MEMORY = 2**22  # bytes of a column, before it goes to the disk
# Lines with nothing that has to be thought about: path, delimiter, label.
_SIMPLE = re.compile(r'^([^\s,"\\\0]+)[ \t,](-?\d{1,9})$', re.MULTILINE)
_SIMPLE_FRAMES = re.compile(
    r'^([^\s,"\\\0]+)[ \t,](\d{1,9})[ \t,](-?\d{1,9})$', re.MULTILINE
)
_DRIVE = re.compile(r'^([A-Za-z]:[\\/]|\\\\)', re.MULTILINE)


class Batch(NamedTuple):
    """Some entries that follow each other.

    Attributes:
        numbers: Of their lines.
        texts: The lines.
        paths: As they are written.
        counts: How many labels each has.
        labels: All labels.
        columns: Start and end, offset and so on of each.
        in_seconds: Of each whether it has a clip in seconds (1), in frames
            (0), or none (-1).
    """

    numbers: Sequence[int]
    texts: Sequence[str]
    paths: list[str]
    counts: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[Any]]
    in_seconds: npt.NDArray[np.int64]


def read_batches(ann_file: str, layout: Layout) -> Iterator[Batch]:
    """The entries of a list, many at a time.

    Raises:
        FileNotFoundError: If there is no such file.
        AnnotationError: If something is not as it should be.
    """
    form = form_of(ann_file, layout)
    if form.kind == 'json':
        rows = read_rows(ann_file, layout)
        while part := list(islice(rows, _BATCH)):
            yield _batch_of(part)
        return
    for first, lines in read_parts(ann_file):
        batch = None
        if form.kind == 'text':
            batch = _simple_batch(first, lines, layout)
        if batch is None:
            part = list(parse_part(ann_file, form, layout, first, lines))
            if not part:
                continue
            batch = _batch_of(part)
        yield batch


def _batch_of(rows: list[Row]) -> Batch:
    columns: dict[str, npt.NDArray[Any]] = {}
    if any(row.start is not None for row in rows):
        nan = float('nan')
        columns['start'] = np.array(
            [nan if row.start is None else row.start for row in rows]
        )
        columns['end'] = np.array([row.end for row in rows])
    for name in ('offset', 'start_index', 'total_frames'):
        if any(name in (row.numbers or ()) for row in rows):
            columns[name] = np.array(
                [(row.numbers or {}).get(name, MISSING) for row in rows],
                np.int64,
            )
    return Batch(
        [row.number for row in rows],
        [row.text for row in rows],
        [row.path for row in rows],
        np.array([len(row.labels) for row in rows], np.int64),
        np.array(list(chain(*(row.labels for row in rows))), np.int64),
        columns,
        np.array(
            [-1 if row.start is None else int(row.in_seconds) for row in rows],
            np.int64,
        ),
    )


def _simple_batch(
    first: int, lines: list[str], layout: Layout
) -> Batch | None:
    """Lines that are all of the simplest form; None if one is not.

    Several times quicker than one by one.
    """
    if layout != Layout(frames=layout.frames):
        return None
    pattern = _SIMPLE_FRAMES if layout.frames else _SIMPLE
    found = pattern.findall(''.join(lines))
    if len(found) != len(lines):
        return None
    paths, *texts = zip(*found, strict=True)
    numbers = [np.array(list(map(int, x)), np.int64) for x in texts]
    if layout.frames and (numbers[0] < 1).any():
        return None
    size = len(lines)
    return Batch(
        range(first, first + size),
        lines,
        list(paths),
        np.ones(size, np.int64),
        numbers[-1],
        dict(total_frames=numbers[0]) if layout.frames else {},
        np.full(size, -1),
    )


class Builder:
    """Columns of an index that grow, and what has been found out of them.

    Args:
        ann_file: The list, for messages.
        layout: Of the list.
        folder: Where long columns are kept in the meantime. None: the
            system's folder for such files.
    """

    def __init__(
        self, ann_file: str, layout: Layout, folder: str | None
    ) -> None:
        self.ann_file, self.layout, self.folder = ann_file, layout, folder
        self.size = 0
        self.facts: dict[str, Any] = dict(
            label_min=None,
            label_max=None,
            unlabelled=None,  # the first row without a label
            clip_unit=None,
            backslash=None,  # the first row with one in its path
            drive=None,  # the first row with a drive of Windows
        )
        self._first: tuple[int, int] | None = None  # line, labels
        self._units: dict[int, int] = {}  # the first line of each
        self._files: dict[str, IO[bytes]] = {}
        self._dtypes: dict[str, np.dtype] = {}
        self._ends = self._label_ends = 0
        self._stack = ExitStack()

    def __enter__(self) -> 'Builder':
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, batch: Batch) -> None:
        """Check and add entries.

        Raises:
            AnnotationError: If they do not fit the earlier ones.
        """
        self._check(batch)
        sizes = [len(path.encode()) for path in batch.paths]
        ends = self._ends + np.cumsum(np.array(sizes, np.int64))
        self._ends = int(ends[-1])
        self._write(
            'paths', np.frombuffer(''.join(batch.paths).encode(), 'u1')
        )
        self._write('ends', ends)
        self._write('labels', batch.labels)
        if self.layout.multi_class:
            label_ends = self._label_ends + np.cumsum(batch.counts)
            self._label_ends = int(label_ends[-1])
            self._write('label_ends', label_ends)
        missing = set(self._dtypes) & set(_DEFAULTS) - set(batch.columns)
        columns = batch.columns | {
            name: np.full(len(sizes), _DEFAULTS[name]) for name in missing
        }
        for name, values in columns.items():
            if name not in self._dtypes and self.size:  # the first to have it
                self._write(name, np.full(self.size, _DEFAULTS[name]))
            self._write(name, values)
        self.size += len(sizes)

    def _check(self, batch: Batch) -> None:
        facts, layout = self.facts, self.layout
        if self._first is None:
            self._first = batch.numbers[0], int(batch.counts[0])
        if not layout.multi_class:
            wrong = np.flatnonzero(batch.counts != self._first[1])
            if len(wrong):
                self._refuse_mixed_labels(batch, int(wrong[0]))
        without = np.flatnonzero(batch.counts == 0)
        if len(without) and facts['unlabelled'] is None:
            facts['unlabelled'] = self.size + int(without[0])
        if len(batch.labels):
            low, high = int(batch.labels.min()), int(batch.labels.max())
            known = facts['label_min'] is not None
            facts['label_min'] = min(low, facts['label_min']) if known else low
            facts['label_max'] = (
                max(high, facts['label_max']) if known else high
            )
        for unit in (0, 1):
            rows = np.flatnonzero(batch.in_seconds == unit)
            if len(rows):
                self._units.setdefault(unit, batch.numbers[int(rows[0])])
        self._check_units()
        together = '\n'.join(batch.paths)
        if '\\' in together or _DRIVE.search(together):
            for row, path in enumerate(batch.paths, self.size):
                if '\\' in path and facts['backslash'] is None:
                    facts['backslash'] = row
                if _DRIVE.match(path) and facts['drive'] is None:
                    facts['drive'] = row

    def _refuse_mixed_labels(self, batch: Batch, row: int) -> None:
        assert self._first is not None
        first, count = self._first
        number, own = batch.numbers[row], int(batch.counts[row])
        if own > 1:
            raise AnnotationError(
                f'{self.ann_file}, line {number} has {own} labels; with '
                f'multi_class there may be several: '
                f'{batch.texts[row].strip()!r}.'
            )
        raise AnnotationError(
            f'{self.ann_file}, line {number} has {"a" if own else "no"} '
            f'label, but line {first} has {"one" if count else "none"}: '
            f'{batch.texts[row].strip()!r}.'
        )

    def _check_units(self) -> None:
        unit, units = self.layout.clip_unit, self._units
        if unit == 'frames' and 1 in units:
            raise AnnotationError(
                f'{self.ann_file}, line {units[1]} has a clip with a decimal '
                "point, but clip_unit='frames' says that there are frames."
            )
        if unit is None and len(units) == 2:
            raise AnnotationError(
                f'{self.ann_file}, line {max(units.values())}: some clips '
                f'have a decimal point, as in line {units[1]}, for seconds; '
                f'others have none, as in line {units[0]}, and would be in '
                "frames. clip_unit='seconds' or 'frames' says what all are."
            )
        if units:
            usual = 'seconds' if 1 in units else 'frames'
            self.facts['clip_unit'] = unit or usual

    def _write(self, name: str, values: npt.NDArray[Any]) -> None:
        values = values.astype(values.dtype.newbyteorder('<'), copy=False)
        if name not in self._files:
            self._dtypes[name] = values.dtype
            self._files[name] = self._stack.enter_context(
                tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=self.folder)
            )
        self._files[name].write(np.ascontiguousarray(values).data)

    def write(self, file: IO[bytes], source: dict[str, Any]) -> None:
        """Write the index.

        Args:
            file: Opened for writing.
            source: What is known of the list as a file.

        Raises:
            AnnotationError: If there are no entries.
        """
        if not self.size:
            raise AnnotationError(f'{self.ann_file} lists no videos.')
        columns: dict[str, list[Any]] = {}
        place = 0
        for name, column in self._files.items():
            size = column.tell()
            columns[name] = [self._dtypes[name].str, place, size]
            place += -(-size // ALIGNMENT) * ALIGNMENT
        head = dict(
            columns=columns,
            bytes=place,
            size=self.size,
            layout=self.layout.as_dict(),
            source=source,
            facts=self.facts,
        )
        text = json.dumps(head).encode()
        text += b' ' * (-(len(text) + 16) % ALIGNMENT)
        file.write(MAGIC + len(text).to_bytes(8, 'little') + text)
        for name, column in self._files.items():
            column.seek(0)
            shutil.copyfileobj(column, file, 2**20)
            file.write(b'\0' * (-columns[name][2] % ALIGNMENT))


_DEFAULTS: dict[str, Any] = dict(
    start=float('nan'),
    end=-1.0,
    offset=MISSING,
    start_index=MISSING,
    total_frames=MISSING,
)
