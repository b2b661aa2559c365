# Copyright (c) MotionMAE contributors. All rights reserved.
"""Lines of a list without names of columns."""

import re
from collections.abc import Callable
from functools import cache

from ...utils.errors import AnnotationError
from ...utils.stores import find_member
from .kinds import VIDEO_EXTENSIONS
from .layout import Layout, Row, decimal, make_row, whole

_EXTENSIONS = '|'.join(map(re.escape, VIDEO_EXTENSIONS))
_MEMBER = r'\.tar@\d+@\d+'  # of a shard
_LAST = re.compile(r'[^\s,]*\Z')
_QUOTED = re.compile(r'("?)(.*)\1')  # a csv file may have quotes


def parse_line(where: str, number: int, line: str, layout: Layout) -> Row:
    """Take a line apart.

    Args:
        where: The list and the line, for messages.
        number: Of the line.
        line: Stripped, not empty.
        layout: Of the list.

    Raises:
        AnnotationError: If it is not as it should be.
    """
    if layout.order is not None:
        return _ordered(where, number, line, layout, layout.order)
    if layout.frames:
        offset = ('offset',) if layout.with_offset else ()
        names = (*offset, 'total_frames')
        return _frames(where, number, line, layout, names)
    return _video(where, number, line, layout)


def _video(where: str, number: int, line: str, layout: Layout) -> Row:
    """``path [label]``, or what else can be told from the numbers."""
    most = None if layout.multi_class else 1
    path, labels = _split_numbers(line, layout.delimiter, most)
    name = _unquote(path)
    if not _is_complete(name):
        match = _after_path(layout.delimiter)(line)
        if match:
            path, tail = match[1], match[2]
            return _of_tail(
                where, number, line, _unquote(path), tail, layout.delimiter
            )
        if name == path:
            start, times = _split_numbers(path, layout.delimiter, None, True)
            if len(times) > 1 and any('.' in x for x in times):
                tail = ' '.join([*times, *labels])
                name = _unquote(start)
                return _of_tail(where, number, line, name, tail, None)
            if times and labels:
                _refuse_more_numbers(where, line, path, layout, 1)
    return make_row(where, number, line, name, {}, labels)


def _of_tail(
    where: str,
    number: int,
    line: str,
    path: str,
    tail: str,
    delimiter: str | None,
) -> Row:
    """Read what follows a path, if it is more than a label."""
    parts = _split_all(tail, delimiter)
    if parts == ['0', '-1']:  # VideoMAE V2's: all of a video
        return make_row(where, number, line, path, {}, [])
    times = parts[:2]
    if (
        len(parts) in (2, 3)
        and any('.' in x for x in times)
        and all(decimal(x) is not None for x in times)
    ):
        values = dict(start=times[0], end=times[1])
        return make_row(where, number, line, path, values, parts[2:])
    hint = '(With multi_class there may be several.)'
    if len(parts) > 1 and all(whole(x) is not None for x in parts):
        hint = (
            '(With multi_class there may be several; columns says what else '
            "numbers are: ('start', 'end', 'label') of a clip in frames, "
            "('start_index', 'total_frames').)"
        )
    raise AnnotationError(
        f'{where}: the label {tail!r} is not a whole number: {line!r}. {hint}'
    )


def _frames(
    where: str, number: int, line: str, layout: Layout, names: tuple[str, ...]
) -> Row:
    """``folder total_frames [label]``, or with an offset before."""
    count = len(names)
    most = None if layout.multi_class else count + 1
    path, numbers = _split_numbers(line, layout.delimiter, most)
    folder = _unquote(path)
    if not folder or len(numbers) < count or int(numbers[count - 1]) < 1:
        raise AnnotationError(
            f'{where} is not "folder {" ".join(names)} [label]": {line!r}.'
        )
    if folder == path:
        _refuse_more_numbers(where, line, path, layout)
    values = dict(zip(names, numbers, strict=False))
    return make_row(where, number, line, folder, values, numbers[count:])


def _ordered(
    where: str, number: int, line: str, layout: Layout, order: tuple[str, ...]
) -> Row:
    """A line with the columns that the user names."""
    names = tuple(name for name in order if name != 'label')
    several = layout.multi_class and len(names) < len(order)
    most = None if several else len(order)
    path, numbers = _split_numbers(line, layout.delimiter, most, decimals=True)
    least = len(names) if several else len(order)
    if not path or len(numbers) < least:
        raise AnnotationError(
            f'{where} is not "path {" ".join(order)}": {line!r}.'
        )
    folder = _unquote(path)
    if folder == path:
        _refuse_more_numbers(where, line, path, layout)
    values = dict(zip(names, numbers, strict=False))
    if layout.frames and (whole(values['total_frames']) or 0) < 1:
        raise AnnotationError(
            f'{where}: the total_frames {values["total_frames"]!r} is not a '
            f'whole number from 1: {line!r}.'
        )
    if not layout.frames and not values.get('total_frames', '-').startswith(
        '-'
    ):
        raise AnnotationError(
            f'{where}: total_frames {values["total_frames"]} tells of a '
            'folder of raw frames, which data_prefix=dict(img=...) is for; a '
            f'video has -1: {line!r}.'
        )
    return make_row(where, number, line, folder, values, numbers[len(names) :])


def _refuse_more_numbers(
    where: str, line: str, path: str, layout: Layout, decimals: int = 2
) -> None:
    """A name that ends in a number is more likely a label too many.

    Or a clip, if it ends in so many numbers with a decimal point.
    """
    if _is_complete(path):
        return
    rest, numbers = _split_numbers(path, layout.delimiter, 2, True)
    if rest and numbers:
        if whole(numbers[-1]) is None and len(numbers) < decimals:
            return
        raise AnnotationError(
            f'{where} has one number more than expected: {line!r}. With '
            'several labels, pass multi_class; columns says what else numbers '
            f'are; a name that ends in a number stands in quotes, "{path}".'
        )


def _is_complete(path: str) -> bool:
    """Tell whether no number that follows can be part of a path."""
    is_member = find_member(path) is not None
    return is_member or path.lower().endswith(VIDEO_EXTENSIONS)


@cache
def _after_path(delimiter: str | None) -> Callable[[str], re.Match | None]:
    """Match a path with a known end, and what follows."""
    between = re.escape(delimiter) if delimiter else r'[\s,]'
    pattern = rf'(.*(?:{_EXTENSIONS}|{_MEMBER})"?)(?:{between})+(.*)'
    return re.compile(pattern, re.IGNORECASE | re.DOTALL).fullmatch


def _split_all(text: str, delimiter: str | None) -> list[str]:
    parts = text.split(delimiter) if delimiter else re.split(r'[\s,]+', text)
    return [_unquote(part.strip()) for part in parts]


def _split_number(
    line: str, delimiter: str | None, decimals: bool
) -> tuple[str, str | None]:
    """Split at the last delimiter, with a number after it.

    The whole line and None if it is no number.
    """
    if delimiter is None:
        last = _LAST.search(line)[0]  # type: ignore[index]
        rest = line[: len(line) - len(last)].rstrip().rstrip(' \t,')
    else:
        rest, _, last = line.rpartition(delimiter)
    match = _QUOTED.fullmatch(last.strip())
    text = match[2] if match else ''
    known = decimal(text) if decimals else whole(text)
    return (line, None) if known is None else (rest.strip(), text)


def _split_numbers(
    line: str, delimiter: str | None, most: int | None, decimals: bool = False
) -> tuple[str, list[str]]:
    """Split off the numbers at the end, at most so many (None: all)."""
    numbers: list[str] = []
    while most is None or len(numbers) < most:
        rest, number = _split_number(line, delimiter, decimals)
        if number is None or (numbers and not rest):
            break
        line = rest
        numbers.insert(0, number)
    return line, numbers


def quote(path: str) -> str:
    """A path as a list has it: in quotes if its end may be taken for a label.

    What begins with a quote is taken for one of them.
    """
    if path.startswith('"') or re.search(r'[\s,]-?\d+$', path):
        return '"' + path.replace('"', '""') + '"'
    return path


def _unquote(path: str) -> str:
    if len(path) > 1 and path[0] == path[-1] == '"':
        return path[1:-1].replace('""', '"')
    return path
