# Copyright (c) MotionMAE contributors. All rights reserved.
"""Lists of videos, and folders of videos, as data infos."""

import os
import os.path as osp
import re
from collections.abc import Sequence
from typing import Any

from ..utils.errors import AnnotationError
from .readers import IMAGE_EXTENSIONS

VIDEO_EXTENSIONS = (
    '.mp4',
    '.webm',
    '.mkv',
    '.avi',
    '.mov',
    '.m4v',
    '.mpg',
    '.mpeg',
    '.flv',
    '.wmv',
    '.3gp',
    '.ts',
)

_NUMBER = re.compile(r'("?)(-?\d+)\1')  # a csv file may have quotes


def find_videos(folder: str) -> list[str]:
    """All video files below a folder, by extension.

    Args:
        folder: Where to look; sub-folders too, links to folders followed.

    Returns:
        Sorted paths relative to ``folder``.

    Raises:
        FileNotFoundError: If there is no such folder, or no video in it.
    """
    return _walk(folder, VIDEO_EXTENSIONS, 'video')


def find_frame_folders(folder: str) -> list[str]:
    """All folders of raw frames: those that hold images.

    Args:
        folder: Where to look; sub-folders too, links to folders followed.

    Returns:
        Sorted paths relative to ``folder``.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
    """
    images = _walk(folder, IMAGE_EXTENSIONS, 'image')
    return sorted({osp.dirname(image) or '.' for image in images})


def _walk(folder: str, extensions: tuple[str, ...], what: str) -> list[str]:
    if not osp.isdir(folder):
        raise FileNotFoundError(f'There is no folder {folder!r}.')
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = osp.realpath(parent)
        if real in seen:  # a link back
            folders.clear()
            continue
        seen.add(real)
        found += [
            osp.relpath(osp.join(parent, name), folder)
            for name in names
            if name.lower().endswith(extensions)
        ]
    if not found:
        raise FileNotFoundError(
            f'There is no {what} below {folder!r} (looked for '
            f'{", ".join(extensions)}).'
        )
    return sorted(found)


def read_video_list(
    ann_file: str,
    delimiter: str | None = None,
    num_classes: int | None = None,
    multi_class: bool = False,
) -> list[tuple[str, Any]]:
    """Read MMAction2's and VideoMAE's lists of videos, or a csv file.

    A line is a path and, optionally, a label. The path may have spaces and
    commas in it: only what follows the last delimiter is a label, and only if
    it is a whole number. Empty lines are passed over. As in a csv file, the
    path may stand in double quotes.

    Args:
        ann_file: The list, UTF-8.
        delimiter: What stands between path and label. None: white space or
            a comma.
        num_classes: Whether every line has to have a label, and one below
            this number. None: all are fine.
        multi_class: Whether a line may have any number of labels.

    Returns:
        For each line path and label, -1 without one; or a list of labels.

    Raises:
        FileNotFoundError: If there is no such file.
        AnnotationError: If a line is bad, with number and text of the line; if
            some lines have a label and others have none; if a label is not
            one of ``num_classes``; or if there are no lines.
    """
    extensions = '|'.join(map(re.escape, VIDEO_EXTENSIONS))
    between = re.escape(delimiter) if delimiter else r'[\s,]'
    after_path = re.compile(
        rf'.*(?:{extensions})"?(?:{between})+(.*)', re.IGNORECASE
    )
    videos = []
    for number, line in _lines(ann_file):
        where = f'{ann_file}, line {number}'
        most = None if multi_class else 1
        path, labels = _split_numbers(line, delimiter, most)
        path = _unquote(path)
        if not path:
            raise AnnotationError(f'{where} has no path: {line!r}.')
        tail = after_path.fullmatch(line)
        if tail and not path.lower().endswith(VIDEO_EXTENSIONS):
            raise AnnotationError(
                f'{where}: the label {tail[1]!r} is not a whole number: '
                f'{line!r}. (With multi_class there may be several.)'
            )
        videos.append((number, line, path, labels))
    checked = _check_labels(ann_file, videos, num_classes, multi_class)
    return [(x[2], y) for x, y in zip(videos, checked, strict=True)]


def read_frame_list(
    ann_file: str,
    delimiter: str | None = None,
    with_offset: bool = False,
    num_classes: int | None = None,
    multi_class: bool = False,
) -> list[dict]:
    """Read MMAction2's and VideoMAE's lists of folders with raw frames.

    A line is ``folder total_frames [label]``, or, with offset, ``folder
    offset total_frames [label]``.

    Args:
        ann_file: The list, UTF-8.
        delimiter: As in :func:`read_video_list`.
        with_offset: Whether lines have an offset.
        num_classes: As in :func:`read_video_list`.
        multi_class: Likewise. The name of a folder may then not end with
            white space and a number.

    Returns:
        For each line ``frame_dir``, ``total_frames``, ``label`` (-1 without
        one, or a list) and, with offset, ``offset``.

    Raises:
        FileNotFoundError: If there is no such file.
        AnnotationError: As in :func:`read_video_list`.
    """
    names = ['offset', 'total_frames'] if with_offset else ['total_frames']
    count = len(names)
    videos = []
    for number, line in _lines(ann_file):
        most = None if multi_class else count + 1
        folder, numbers = _split_numbers(line, delimiter, most)
        folder = _unquote(folder)
        if not folder or len(numbers) < count or numbers[count - 1] < 1:
            raise AnnotationError(
                f'{ann_file}, line {number} is not "folder '
                f'{" ".join(names)} [label]": {line!r}.'
            )
        info = dict(zip(names, numbers, strict=False), frame_dir=folder)
        videos.append((number, line, info, numbers[count:]))
    checked = _check_labels(ann_file, videos, num_classes, multi_class)
    return [dict(x[2], label=y) for x, y in zip(videos, checked, strict=True)]


def refuse_windows_paths(ann_file: str, paths: Sequence[str]) -> None:
    """Make sure that a list was not written on Windows, for Windows.

    Args:
        ann_file: The list, for the message.
        paths: Files or folders, complete.

    Raises:
        AnnotationError: If a path has backslashes and there is no such file,
            where backslashes separate nothing.
    """
    if os.sep == '\\':
        return
    for path in paths:
        if '\\' in path and not osp.lexists(path):
            raise AnnotationError(
                f'{ann_file} has paths of Windows, such as {path!r}: write / '
                'for each backslash, relative to data_prefix.'
            )


def _lines(ann_file: str) -> list[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    if not osp.isfile(ann_file):
        raise FileNotFoundError(f'There is no annotation file {ann_file!r}.')
    try:
        with open(ann_file, encoding='utf-8-sig') as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f'{ann_file} is not a text file in UTF-8: {error}.'
        ) from error
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.split('\n'), 1)
        if line.strip()
    ]
    if not lines:
        raise AnnotationError(f'{ann_file} lists no videos.')
    return lines


def _split_number(line: str, delimiter: str | None) -> tuple[str, int | None]:
    """Split at the last delimiter, with a number after it.

    The whole line and None if it is no number.
    """
    if delimiter is None:
        match = re.fullmatch(r'(.*)[\s,](.*?)', line) or ['', '', line]
        rest, last = match[1].rstrip(' \t,'), match[2]
    else:
        rest, _, last = line.rpartition(delimiter)
    number = _NUMBER.fullmatch(last.strip())
    return (rest.strip(), int(number[2])) if number else (line, None)


def _split_numbers(
    line: str, delimiter: str | None, most: int | None
) -> tuple[str, list[int]]:
    """Split off the numbers at the end, at most so many (None: all)."""
    numbers: list[int] = []
    while most is None or len(numbers) < most:
        rest, number = _split_number(line, delimiter)
        if number is None or (numbers and not rest):
            break
        line = rest
        numbers.insert(0, number)
    return line, numbers


def _unquote(path: str) -> str:
    if len(path) > 1 and path[0] == path[-1] == '"':
        return path[1:-1].replace('""', '"')
    return path


def _check_labels(
    ann_file: str,
    videos: list[tuple[int, str, Any, list[int]]],
    num_classes: int | None,
    multi_class: bool,
) -> list[Any]:
    """The label of each line, or its list of labels.

    Args:
        ann_file: The list.
        videos: Of each line number, text, what else is in it, and labels.
        num_classes: As in :func:`read_video_list`.
        multi_class: Likewise.

    Raises:
        AnnotationError: If one is wrong or missing.
    """
    first, _, _, of_first = videos[0]
    for number, line, _, labels in videos:
        where = f'{ann_file}, line {number} has'
        if not multi_class and len(labels) != len(of_first):
            raise AnnotationError(
                f'{where} {"a" if labels else "no"} label, but line {first} '
                f'has {"one" if of_first else "none"}: {line!r}.'
            )
        if num_classes is None:
            continue
        wrong = [x for x in labels if not 0 <= x < num_classes]
        if wrong or not (labels or multi_class):
            raise AnnotationError(
                f'{where} {f"the label {wrong[0]}" if wrong else "no label"}; '
                f'there are {num_classes} classes, from 0: {line!r}.'
            )
    if multi_class:
        return [labels for _, _, _, labels in videos]
    return [labels[0] if labels else -1 for _, _, _, labels in videos]
