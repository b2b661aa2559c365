# Copyright (c) MotionMAE contributors. All rights reserved.
"""Lists of videos, and folders of videos."""

from typing import Any

from ...utils.errors import AnnotationError
from .folders import Found, find_frame_folders, find_videos, walk
from .index import VideoList
from .kinds import LIST_EXTENSIONS, VIDEO_EXTENSIONS, is_video, kind_of
from .layout import Columns, Layout
from .lines import quote
from .opening import open_list
from .paths import check_windows_paths, locate
from .tables import read_rows, read_texts
from .texts import read_lines

__all__ = [
    'LIST_EXTENSIONS',
    'VIDEO_EXTENSIONS',
    'Columns',
    'Found',
    'Layout',
    'VideoList',
    'check_windows_paths',
    'find_frame_folders',
    'find_videos',
    'is_video',
    'kind_of',
    'locate',
    'open_list',
    'quote',
    'read_frame_list',
    'read_lines',
    'read_rows',
    'read_texts',
    'read_video_list',
    'walk',
]


def read_video_list(
    ann_file: str,
    delimiter: str | None = None,
    num_classes: int | None = None,
    multi_class: bool = False,
) -> list[tuple[str, Any]]:
    """Read paths and labels of a list of videos, of any form.

    A line is a path and, optionally, a label. The path may have spaces and
    commas in it: only what follows the last delimiter is a label, and only if
    it is a whole number. Empty lines are passed over. As in a csv file, the
    path may stand in double quotes. Other forms:
    ``docs/user_guides/lists.md``.

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
            one of ``num_classes``; if there are no lines; or if some are
            clips, parts of a video.
    """
    layout = Layout.of(delimiter=delimiter, multi_class=multi_class)
    listed = open_list(ann_file, layout, num_classes)
    if listed.facts['clip_unit'] is not None:
        raise AnnotationError(
            f'{ann_file!r} lists clips, from a start to an end, but only '
            'whole videos can be taken here.'
        )
    return [(entry['path'], entry['label']) for entry in listed.entries()]


def read_frame_list(
    ann_file: str,
    delimiter: str | None = None,
    with_offset: bool = False,
    num_classes: int | None = None,
    multi_class: bool = False,
) -> list[dict]:
    """Read a list of folders with raw frames, of any form.

    A line is ``folder total_frames [label]``, or, with offset, ``folder
    offset total_frames [label]``. Other forms: ``docs/user_guides/lists.md``.

    Args:
        ann_file: The list, UTF-8.
        delimiter: As in :func:`read_video_list`.
        with_offset: Whether lines have an offset.
        num_classes: As in :func:`read_video_list`.
        multi_class: Likewise.

    Returns:
        For each line ``frame_dir``, ``total_frames``, ``label`` (-1 without
        one, or a list) and, with offset, ``offset``.

    Raises:
        FileNotFoundError: If there is no such file.
        AnnotationError: As in :func:`read_video_list`; also if a name that
            is not in quotes ends in a number, so that there may be a label
            too many.
    """
    layout = Layout.of(True, delimiter, with_offset, multi_class)
    entries = open_list(ann_file, layout, num_classes).entries()
    return [dict(entry, frame_dir=entry.pop('path')) for entry in entries]
