# Copyright (c) MotionMAE contributors. All rights reserved.
"""Layout of a list: what stands on a line, and one line of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ...utils.choices import UNITS
from ...utils.errors import AnnotationError, UsageError

NUMBERS = ('label', 'start', 'end', 'offset', 'start_index', 'total_frames')
"""What a line may have besides the path."""

Columns = Sequence[str] | Mapping[str, str]


class Row(NamedTuple):
    """One entry of a list.

    Attributes:
        number: Of its line, from 1.
        text: The line.
        path: As it is written.
        labels: Any number of them.
        start: Where a clip begins, in seconds or frames; None: all is meant.
        end: Where it ends; -1: with the video.
        in_seconds: Whether one of the two has a decimal point, or a name
            that says so.
        numbers: ``offset``, ``start_index``, ``total_frames``, if there.
    """

    number: int
    text: str
    path: str
    labels: list[int]
    start: float | None = None
    end: float = -1
    in_seconds: bool = False
    numbers: dict[str, int] | None = None


@dataclass(frozen=True)
class Layout:
    """Parts of the lines of a list.

    Attributes:
        frames: Whether it lists folders of raw frames instead of videos.
        delimiter: What stands between the parts of a line. None: white space
            or a comma.
        with_offset: Whether a line has ``folder offset total_frames
            [label]``.
        multi_class: Whether a line may have any number of labels.
        columns: Of lists without names of columns: what follows the path, in
            order, of ``label``, ``start``, ``end``, ``offset``,
            ``start_index`` and ``total_frames``. Of those with names: which
            name stands for ``path`` or one of these, where that is not
            understood by itself. None: the usual layout.
        clip_unit: Of start and end: ``'frames'`` or ``'seconds'``. None: in a
            list they either all have a decimal point, and are seconds, or
            none has, and they are frames; where columns have names, these
            say it, as ``start_sec`` does, or it has to be said here.

    Raises:
        UsageError: If they contradict each other.
    """

    frames: bool = False
    delimiter: str | None = None
    with_offset: bool = False
    multi_class: bool = False
    columns: tuple[str, ...] | tuple[tuple[str, str], ...] | None = None
    clip_unit: str | None = None

    @classmethod
    def of(
        cls,
        frames: bool = False,
        delimiter: str | None = None,
        with_offset: bool = False,
        multi_class: bool = False,
        columns: Columns | None = None,
        clip_unit: str | None = None,
    ) -> 'Layout':
        """Make one of arguments as a config has them."""
        plain: Any = None
        if isinstance(columns, Mapping):
            plain = tuple(sorted(columns.items()))
        elif columns is not None:
            plain = tuple(columns)
        return cls(
            frames, delimiter, with_offset, multi_class, plain, clip_unit
        )

    def __post_init__(self) -> None:
        known = [*self.names, *(self.order or ())]
        unknown = set(known) - {'path', *NUMBERS}
        order = self.order or ()
        if isinstance(self.columns, str) or unknown:
            raise UsageError(
                f'columns can name {", ".join(("path", *NUMBERS))}; not '
                f'{", ".join(sorted(unknown)) or repr(self.columns)}.'
            )
        if len(set(order)) < len(order) or 'label' in order[:-1]:
            raise UsageError(
                'columns has each name once, and the label last; it is '
                f'{order}.'
            )
        if ('start' in order) != ('end' in order):
            raise UsageError('columns has start and end, or neither.')
        if self.frames and order and 'total_frames' not in order:
            raise UsageError(
                'columns of folders with raw frames has total_frames; it is '
                f'{order}.'
            )
        if self.clip_unit not in (None, *UNITS):
            raise UsageError(
                f'clip_unit must be frames or seconds, not {self.clip_unit!r}.'
            )

    @property
    def names(self) -> dict[str, str]:
        """Names that the list has for the path or other columns."""
        pairs = self.columns or ()
        return {x[0]: x[1] for x in pairs if isinstance(x, tuple)}

    @property
    def order(self) -> tuple[str, ...] | None:
        """Columns after the path; None: as usual, or told by names."""
        if self.columns is None or self.names:
            return None
        return tuple(x for x in self.columns if isinstance(x, str))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


_WHOLE = re.compile(r'-?\d{1,18}')
_DECIMAL = re.compile(r'-?(\d{1,18}\.\d*|\.\d+)')


def whole(text: str) -> int | None:
    """The whole number that a text is; None if it is none."""
    return int(text) if _WHOLE.fullmatch(text) else None


def decimal(text: str) -> float | None:
    """The number that a text is, with a decimal point or without."""
    is_number = _WHOLE.fullmatch(text) or _DECIMAL.fullmatch(text)
    return float(text) if is_number else None


def make_row(
    where: str,
    number: int,
    text: str,
    path: str,
    values: Mapping[str, str],
    labels: Sequence[str],
    unit: str | None = None,
) -> Row:
    """Make an entry of texts.

    Args:
        where: The list and the line, for messages.
        number: Of the line.
        text: The line.
        path: As it is written.
        values: Those of ``start`` and so on that are there.
        labels: Likewise.
        unit: Of start and end, if their names tell.

    Raises:
        AnnotationError: If something is no number, or is out of range.
    """
    if not path or '\0' in path:
        reason = 'a zero byte in its path' if path else 'no path'
        raise AnnotationError(f'{where} has {reason}: {text!r}.')
    numbers = {}
    for name in ('offset', 'start_index', 'total_frames'):
        if name in values:
            numbers[name] = _whole(where, text, name, values[name])
    found = [_whole(where, text, 'label', label) for label in labels]
    start, end, in_seconds = None, -1.0, False
    if 'start' in values or 'end' in values:
        texts = [values.get('start', '0'), values.get('end', '-1')]
        start, end = (
            _decimal(where, text, name, value)
            for name, value in zip(('start', 'end'), texts, strict=True)
        )
        in_seconds = unit == 'seconds'
        if unit is None:
            in_seconds = any('.' in value for value in texts)
        elif unit == 'frames' and (start % 1 or end % 1):
            raise AnnotationError(
                f'{where}: {texts[0]} and {texts[1]} are no numbers of '
                f'frames, which the names of the columns say: {text!r}.'
            )
        if start < 0 or (end != -1 and end <= start):
            raise AnnotationError(
                f'{where}: a clip from {texts[0]} to {texts[1]} is empty or '
                f'begins before the video: {text!r}.'
            )
    return Row(number, text, path, found, start, end, in_seconds, numbers)


def _whole(where: str, text: str, name: str, value: str) -> int:
    number = whole(value)
    if number is None:
        raise AnnotationError(
            f'{where}: the {name} {value!r} is not a whole number: {text!r}.'
        )
    return number


def _decimal(where: str, text: str, name: str, value: str) -> float:
    number = decimal(value)
    if number is None:
        raise AnnotationError(
            f'{where}: the {name} {value!r} is not a number of seconds or '
            f'frames: {text!r}.'
        )
    return number
