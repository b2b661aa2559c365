# Copyright (c) MotionMAE contributors. All rights reserved.
"""Lists of videos, and folders of videos, as data infos."""

import csv
import os
import os.path as osp
import re

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

_NUMBER = re.compile(r'-?\d+')
# A path with a video's extension and something after it that is no label.
_NO_LABEL = re.compile(
    rf'.*(?:{"|".join(map(re.escape, VIDEO_EXTENSIONS))})[\s,]+(.+)',
    re.IGNORECASE,
)


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
    ann_file: str, delimiter: str | None = None
) -> list[tuple[str, int]]:
    """Read MMAction2's and VideoMAE's lists of videos, or a csv file.

    A line is a path and, optionally, a label. The path may have spaces and
    commas in it: only what follows the last delimiter is a label, and only if
    it is a whole number. Empty lines are passed over. In a csv file a path
    may stand in double quotes.

    Args:
        ann_file: The list, UTF-8.
        delimiter: What stands between path and label. None: white space or
            a comma.

    Returns:
        For each line path and label, -1 without one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is bad, with number and text of the line; if
            some lines have a label and others have none; or if there are no
            lines.
    """
    videos = []
    first: tuple[int, bool] | None = None
    for number, line in _lines(ann_file):
        where = f'{ann_file}, line {number}'
        path, label = _split_label(line, delimiter)
        if not path:
            raise ValueError(f'{where} has no path: {line!r}.')
        no_label = _NO_LABEL.fullmatch(line) if label is None else None
        if no_label and not path.lower().endswith(VIDEO_EXTENSIONS):
            raise ValueError(
                f'{where}: the label {no_label[1]!r} is not a whole number: '
                f'{line!r}.'
            )
        first = first or (number, label is not None)
        if first[1] != (label is not None):
            raise ValueError(
                f'{where} has {"no" if label is None else "a"} label, but '
                f'line {first[0]} has {"one" if first[1] else "none"}: '
                f'{line!r}.'
            )
        videos.append((path, -1 if label is None else label))
    return videos


def read_frame_list(
    ann_file: str, delimiter: str | None = None, with_offset: bool = False
) -> list[dict]:
    """Read MMAction2's and VideoMAE's lists of folders with raw frames.

    A line is ``folder total_frames [label]``, or, with offset, ``folder
    offset total_frames [label]``.

    Args:
        ann_file: The list, UTF-8.
        delimiter: As in :func:`read_video_list`.
        with_offset: Whether lines have an offset.

    Returns:
        For each line ``frame_dir``, ``total_frames``, ``label`` (-1 without
        one) and, with offset, ``offset``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is bad, with number and text of the line, or if
            there are no lines.
    """
    names = ['offset', 'total_frames'] if with_offset else ['total_frames']
    videos = []
    for number, line in _lines(ann_file):
        folder = line
        numbers: list[int] = []
        while len(numbers) <= len(names):
            rest, value = _split_label(folder, delimiter)
            if value is None or not rest:
                break
            folder = rest
            numbers.insert(0, value)
        if len(numbers) < len(names) or numbers[len(names) - 1] < 1:
            raise ValueError(
                f'{ann_file}, line {number} is not "folder '
                f'{" ".join(names)} [label]": {line!r}.'
            )
        info = dict(zip([*names, 'label'], [*numbers, -1], strict=False))
        videos.append(dict(frame_dir=folder, **info))
    return videos


def _lines(ann_file: str) -> list[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    if not osp.isfile(ann_file):
        raise FileNotFoundError(f'There is no annotation file {ann_file!r}.')
    try:
        with open(ann_file, encoding='utf-8-sig') as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{ann_file} is not a text file in UTF-8: {error}.'
        ) from error
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.split('\n'), 1)
        if line.strip()
    ]
    if not lines:
        raise ValueError(f'{ann_file} lists no videos.')
    return lines


def _split_label(line: str, delimiter: str | None) -> tuple[str, int | None]:
    """Path and label; None if the last part is no number."""
    if line.startswith('"'):
        row = next(csv.reader([line], delimiter=delimiter or ','))
        path, last = row[0], ' '.join(row[1:])
    elif delimiter is None:
        match = re.fullmatch(r'(.*)[\s,](.*?)', line) or ['', '', line]
        path, last = match[1].rstrip(' \t,'), match[2]
    else:
        path, _, last = line.rpartition(delimiter)
    if _NUMBER.fullmatch(last.strip()):
        return path.strip(), int(last)
    return (path if line.startswith('"') else line), None
