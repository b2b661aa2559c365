# Copyright (c) MotionMAE contributors. All rights reserved.
"""Lists of videos, and folders of videos, as data infos."""

import os
import os.path as osp
import re
from collections.abc import Sequence

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
    ann_file: str, delimiter: str | None = None
) -> list[tuple[str, int]]:
    """Read MMAction2's and VideoMAE's lists of videos, or a csv file.

    A line is a path and, optionally, a label. The path may have spaces and
    commas in it: only what follows the last delimiter is a label, and only if
    it is a whole number. Empty lines are passed over. As in a csv file, the
    path may stand in double quotes.

    Args:
        ann_file: The list, UTF-8.
        delimiter: What stands between path and label. None: white space or
            a comma.

    Returns:
        For each line path and label, -1 without one.

    Raises:
        FileNotFoundError: If there is no such file.
        AnnotationError: If a line is bad, with number and text of the line; if
            some lines have a label and others have none; or if there are no
            lines.
    """
    extensions = '|'.join(map(re.escape, VIDEO_EXTENSIONS))
    between = re.escape(delimiter) if delimiter else r'[\s,]'
    after_path = re.compile(
        rf'.*(?:{extensions})"?(?:{between})+(.*)', re.IGNORECASE
    )
    videos = []
    for number, line in _lines(ann_file):
        where = f'{ann_file}, line {number}'
        path, label = _split_number(line, delimiter)
        path = _unquote(path)
        if not path:
            raise AnnotationError(f'{where} has no path: {line!r}.')
        tail = after_path.fullmatch(line)
        if tail and not path.lower().endswith(VIDEO_EXTENSIONS):
            raise AnnotationError(
                f'{where}: the label {tail[1]!r} is not a whole number: '
                f'{line!r}.'
            )
        videos.append((number, line, path, label))
    _all_or_none_labelled(ann_file, videos)
    return [(path, -1 if n is None else n) for _, _, path, n in videos]


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
        AnnotationError: As in :func:`read_video_list`.
    """
    names = ['offset', 'total_frames'] if with_offset else ['total_frames']
    videos = []
    for number, line in _lines(ann_file):
        folder = line
        numbers: list[int] = []
        while len(numbers) <= len(names):
            rest, value = _split_number(folder, delimiter)
            if value is None or not rest:
                break
            folder = rest
            numbers.insert(0, value)
        folder = _unquote(folder)
        count = len(names)
        if not folder or len(numbers) < count or numbers[count - 1] < 1:
            raise AnnotationError(
                f'{ann_file}, line {number} is not "folder '
                f'{" ".join(names)} [label]": {line!r}.'
            )
        label = numbers[count] if len(numbers) > count else None
        info = dict(zip(names, numbers, strict=False))
        videos.append((number, line, dict(info, frame_dir=folder), label))
    _all_or_none_labelled(ann_file, videos)
    return [
        dict(info, label=-1 if label is None else label)
        for _, _, info, label in videos
    ]


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


def _unquote(path: str) -> str:
    if len(path) > 1 and path[0] == path[-1] == '"':
        return path[1:-1].replace('""', '"')
    return path


def _all_or_none_labelled(ann_file: str, videos: list[tuple]) -> None:
    """Raise an error if some lines have a label and others have none."""
    first, _, _, label = videos[0]
    for number, line, _, other in videos:
        if (label is None) != (other is None):
            raise AnnotationError(
                f'{ann_file}, line {number} has '
                f'{"no" if other is None else "a"} label, but line {first} '
                f'has {"none" if label is None else "one"}: {line!r}.'
            )
