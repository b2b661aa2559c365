# Copyright (c) MotionMAE contributors. All rights reserved.
"""Entries of a list of any form: text, CSV with names, JSON, JSON Lines."""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from ...utils.errors import AnnotationError
from .layout import Layout, Row, make_row
from .lines import parse_line
from .texts import read_lines, read_parts

# What the columns are called, first that which takes precedence.
_NAMES = dict(
    path='path video video_path filename file_name file filepath file_path '
    'frame_dir folder clip clip_path video_name name',
    label='label labels class_id class_index label_id class target',
    start='start start_time time_start t_start start_sec start_seconds '
    'start_frame frame_start',
    end='end end_time time_end t_end end_sec end_seconds end_frame frame_end',
    offset='offset',
    start_index='start_index start_idx',
    total_frames='total_frames num_frames',
)
_NAME_OF = {x: name for name, all_ in _NAMES.items() for x in all_.split()}
_DELIMITERS = (',', '\t', ';', '|')
# Units that names of start and end tell.
_UNITS = (
    ('frames', re.compile('frame')),
    ('seconds', re.compile('sec|time|^t_')),
)


class Header(NamedTuple):
    """Names of columns: where what stands, and what is between."""

    places: dict[str, int]
    delimiter: str
    number: int
    unit: str | None


class Form(NamedTuple):
    """Kind of list that a file is, by its name and its first line."""

    kind: Literal['text', 'csv', 'json', 'jsonl']
    header: Header | None = None


def form_of(ann_file: str, layout: Layout) -> Form:
    """Find out what kind of list a file is.

    Raises:
        FileNotFoundError: If there is no such file.
        AnnotationError: If it is no text, or names of columns are wrong.
    """
    name = ann_file.lower()
    as_json = name.endswith(('.jsonl', '.ndjson'))
    for number, line in read_lines(ann_file):
        if name.endswith('.json'):
            alone = _is_object(line) and '"data_list"' not in line
            return Form('jsonl' if alone else 'json')
        if as_json or _is_object(line):
            return Form('jsonl')
        is_csv = name.endswith(('.csv', '.tsv'))
        where = f'{ann_file}, line {number}'
        header = _find_header(where, number, line, layout, is_csv)
        return Form('csv', header) if header else Form('text')
    return Form('text')


def read_rows(ann_file: str, layout: Layout) -> Iterator[Row]:
    """The entries of a list, one after the other.

    Args:
        ann_file: Text, CSV, JSON (.json) or JSON Lines.
        layout: Of the list.

    Raises:
        FileNotFoundError: If there is no such file.
        AnnotationError: If something is not as it should be.
    """
    form = form_of(ann_file, layout)
    if form.kind == 'json':
        yield from _json_rows(ann_file, layout)
        return
    for part in read_parts(ann_file):
        yield from parse_part(ann_file, form, layout, *part)


def read_texts(ann_file: str, layout: Layout) -> tuple[str, list[str]]:
    """Read the texts of a list: names of columns, '' without, and entries.

    Args:
        ann_file: A list without errors.
        layout: Of the list.

    Returns:
        Lines as they are, but for line ends; together, and without the names
        if there are none, they are a list again. Entries of a JSON array
        become lines of JSON.
    """
    form = form_of(ann_file, layout)
    if form.kind == 'json':
        return '', [row.text for row in read_rows(ann_file, layout)]
    texts = [
        line.removesuffix('\n')
        for _, lines in read_parts(ann_file)
        for line in lines
        if line.strip()
    ]
    return (texts.pop(0), texts) if form.header else ('', texts)


def parse_part(
    ann_file: str, form: Form, layout: Layout, first: int, lines: list[str]
) -> Iterator[Row]:
    """The entries of some lines.

    Args:
        ann_file: The list, for messages.
        form: Of the list, not ``json``.
        layout: Of the list.
        first: Number of the first line.
        lines: As they are; empty ones are passed over.

    Raises:
        AnnotationError: If one is not as it should be.
    """
    header = form.header
    for number, line in enumerate(lines, first):
        line = line.strip()
        if not line or (header and number == header.number):
            continue
        where = f'{ann_file}, line {number}'
        if form.kind == 'jsonl':
            yield _json_row(where, number, line, _load(where, line), layout)
        elif header:
            yield _csv_row(where, number, line, header, layout)
        else:
            yield parse_line(where, number, line, layout)


def _find_header(
    where: str, number: int, line: str, layout: Layout, is_csv: bool
) -> Header | None:
    """The names of columns, if a line has such.

    It has if two of them are known, in a .csv or .tsv file if that for the
    path is; or if the layout has names.

    Raises:
        AnnotationError: If there is no path among them, or two columns have
            names for the same.
    """
    candidates = (layout.delimiter,) if layout.delimiter else _DELIMITERS
    best: tuple[str, list[str]] = ('', [])
    for delimiter in candidates:
        cells = _split_cells(line, delimiter)
        if len(cells) > len(best[1]):
            best = delimiter, cells
    delimiter, cells = best
    lower = [cell.strip().lower() for cell in cells]
    wanted = {x.lower(): name for name, x in layout.names.items()}
    absent = [x for x in layout.names.values() if x.lower() not in lower]
    if absent:
        raise AnnotationError(
            f'{where} must name the column {absent[0]!r}; it is {line!r}.'
        )
    known = [x for x in lower if x in _NAME_OF]
    enough = len(known) > 1 or (
        is_csv and any(_NAME_OF[x] == 'path' for x in known)
    )
    if not wanted and (layout.order is not None or not enough):
        return None
    places: dict[str, int] = {}
    for place, cell in enumerate(lower):
        name = wanted.get(cell)
        if name is None:
            name = _NAME_OF.get(cell)
            if name is None or name in layout.names:
                continue
        other = places.get(name)
        if other is not None and lower[other] != name and cell != name:
            raise AnnotationError(
                f'{where} has two columns for the {name}, {cells[other]!r} '
                f'and {cells[place]!r}; columns=dict({name}=...) says which.'
            )
        if other is None or cell == name:
            places[name] = place
    if 'path' not in places:
        raise AnnotationError(
            f'{where} names columns, but none for the path: {line!r}. '
            'columns=dict(path=...) says which it is.'
        )
    names = [lower[places[x]] for x in ('start', 'end') if x in places]
    return Header(places, delimiter, number, _unit_of(where, names, layout))


def _unit_of(where: str, names: list[str], layout: Layout) -> str | None:
    """Unit of clips that the names of start and end tell, if they do.

    Raises:
        AnnotationError: If they contradict each other, or the layout.
    """
    units = {u for u, x in _UNITS for name in names if x.search(name)}
    if layout.clip_unit:
        units.add(layout.clip_unit)
    if len(units) > 1:
        raise AnnotationError(
            f'{where}: by their names, {" and ".join(names)} are not both in '
            f'{layout.clip_unit or "the same unit"}; columns=dict(start=..., '
            'end=...) and clip_unit=... say what they are.'
        )
    return units.pop() if units else None


def _split_cells(line: str, delimiter: str) -> list[str]:
    """Take a line of a CSV file apart; quotes that are not closed are text."""
    if len(delimiter) != 1:
        return [cell.strip() for cell in line.split(delimiter)]
    try:
        reader = csv.reader(
            [line], delimiter=delimiter, skipinitialspace=True, strict=True
        )
        return next(reader, [''])
    except (csv.Error, StopIteration):
        return line.split(delimiter)


def _csv_row(
    where: str, number: int, line: str, header: Header, layout: Layout
) -> Row:
    cells = _split_cells(line, header.delimiter)
    if len(cells) <= max(header.places.values()):
        raise AnnotationError(
            f'{where} has {len(cells)} columns, fewer than line '
            f'{header.number}: {line!r}.'
        )
    found = {n: cells[i].strip() for n, i in header.places.items()}
    return _named_row(where, number, line, found, layout, header.unit)


def _named_row(
    where: str,
    number: int,
    text: str,
    found: dict[str, str],
    layout: Layout,
    unit: str | None,
) -> Row:
    path, label = found.pop('path'), found.pop('label', '')
    labels = [label] if label else []
    if layout.multi_class:
        labels = [x for x in re.split(r'[\s,;|]+', label) if x]
    values = {name: value for name, value in found.items() if value}
    if layout.frames and not values.get('total_frames', '').isdigit():
        raise AnnotationError(
            f'{where} has no total_frames, which folders of raw frames need: '
            f'{text!r}.'
        )
    row = make_row(where, number, text, path, values, labels, unit)
    if row.start is not None and unit is None and not row.in_seconds:
        raise AnnotationError(
            f'{where} has a clip of whole numbers, of which the names of the '
            "columns do not tell the unit: clip_unit='seconds' or 'frames' "
            f'does. {text!r}.'
        )
    return row


# ------------------------------------------------------------------- JSON


def _is_object(line: str) -> bool:
    if not line.startswith('{'):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _load(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f'{where} is not JSON: {text!r}.') from error


def _json_rows(ann_file: str, layout: Layout) -> Iterator[Row]:
    """Entries of an array, alone or as ``data_list`` in an object."""
    text = ''.join(x for _, lines in read_parts(ann_file) for x in lines)
    place = 0
    if text.lstrip().startswith('{'):  # MMEngine's form
        match = re.search(r'"data_list"\s*:\s*(?=\[)', text)
        if not match:
            raise AnnotationError(
                f'{ann_file}, line 1 begins an object without a data_list; a '
                'list is an array of entries.'
            )
        place = match.end()
    decoder, between = json.JSONDecoder(), re.compile(r'[\s,]*')
    place = re.compile(r'\s*').match(text, place).end()  # type: ignore
    number, seen = 1, 0
    if text[place : place + 1] != '[':
        if not text.strip():
            return
        raise AnnotationError(
            f'{ann_file}, line 1 does not begin an array of entries.'
        )
    place += 1
    while True:
        place = between.match(text, place).end()  # type: ignore[union-attr]
        number += text.count('\n', seen, place)
        seen = place
        where = f'{ann_file}, line {number}'
        if text[place : place + 1] == ']':
            return
        try:
            entry, stop = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise AnnotationError(
                f'{where} is not JSON: {text[place : place + 80]!r}.'
            ) from error
        place = stop
        line = json.dumps(entry, ensure_ascii=False)
        yield _json_row(where, number, line, entry, layout)


def _json_row(
    where: str, number: int, text: str, entry: Any, layout: Layout
) -> Row:
    if isinstance(entry, str):
        entry = dict(path=entry)
    if not isinstance(entry, Mapping):
        raise AnnotationError(
            f'{where} is neither an object nor a path: {text!r}.'
        )
    found: dict[str, str] = {}
    of_clip: dict[str, str] = {}
    for key, value in entry.items():
        by_user = [n for n, x in layout.names.items() if x == key]
        name = by_user[0] if by_user else _NAME_OF.get(key.lower(), '')
        if not name or value is None:
            continue
        if not by_user and (
            name in layout.names or (name in found and key != name)
        ):
            continue
        found[name] = _as_text(where, text, key, value)
        if name in ('start', 'end'):
            of_clip[name] = key.lower()
    try:
        found['path'].encode()
    except KeyError:
        raise AnnotationError(f'{where} has no path: {text!r}.') from None
    except UnicodeEncodeError:
        raise AnnotationError(
            f'{where}: the path is no text in UTF-8: {text!r}.'
        ) from None
    unit = _unit_of(where, [*of_clip.values()], layout)
    return _named_row(where, number, text, found, layout, unit)


def _as_text(where: str, text: str, key: str, value: Any) -> str:
    if isinstance(value, list):
        return ','.join(_as_text(where, text, key, x) for x in value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise AnnotationError(
            f'{where}: {key!r} is neither a text nor a number: {text!r}.'
        )
    if isinstance(value, float):
        return f'{value:.9f}'.rstrip('0')
    return str(value)
