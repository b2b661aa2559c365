# Copyright (c) MotionMAE contributors. All rights reserved.
"""Folders of videos and of raw frames: what is below them, and what is not."""

import os
import os.path as osp
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from ...utils.files import is_litter
from ..readers import IMAGE_EXTENSIONS
from .kinds import VIDEO_EXTENSIONS, is_video

_NAMED = 10


class Found(NamedTuple):
    """Files and folders that a walk has come upon.

    Attributes:
        paths: Videos, or folders of frames, relative and sorted.
        folders: Names of the sub-folders right below, sorted.
        litter: Hidden and left-over files and folders, relative and sorted;
            what is in such a folder is not looked at.
        others: All other files, relative and sorted.
    """

    paths: list[str]
    folders: list[str]
    litter: list[str]
    others: list[str]

    def all_named(self) -> bool:
        """Tell whether :meth:`passed_over` names each file and folder."""
        return max(len(self.litter), len(self.others)) <= _NAMED

    def passed_over(self) -> list[str]:
        """Tell what was passed over: one line for each kind, if any."""
        lines = []
        if self.litter:
            lines.append(f'hidden or left over: {_name(self.litter)}')
        if self.others:
            ends = Counter(
                osp.splitext(path)[1].lower() or 'no extension'
                for path in self.others
            )
            counts = ', '.join(f'{n} {end}' for end, n in ends.most_common())
            lines.append(f'other files: {_name(self.others)} ({counts})')
        return [f'passed over, {line}' for line in lines]


def _name(paths: list[str]) -> str:
    more = len(paths) - _NAMED
    names = ', '.join(map(repr, paths[:_NAMED]))
    return f'{len(paths)}: {names}' + (f' and {more} more' if more > 0 else '')


def find_videos(
    folder: str, tell: Callable[[str], object] | None = None
) -> list[str]:
    """All video files below a folder, see :func:`is_video`.

    Args:
        folder: Where to look; sub-folders too, links to folders followed.
            Hidden files and folders, and what systems leave behind, such as
            ``__MACOSX`` and ``Thumbs.db``, are passed over.
        tell: Is given lines on what was passed over, if anything was.

    Returns:
        Sorted paths relative to ``folder``.

    Raises:
        FileNotFoundError: If there is no such folder, or no video in it.
    """
    found = walk(folder)
    if tell is not None:
        for line in found.passed_over():
            tell(line)
    return found.paths


def find_frame_folders(folder: str) -> list[str]:
    """All folders of raw frames: those that hold images.

    Args:
        folder: Where to look, see :func:`find_videos`.

    Returns:
        Sorted paths relative to ``folder``.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
    """
    return walk(folder, frames=True).paths


def walk(folder: str, frames: bool = False) -> Found:
    """Look through a folder for videos, or for folders of frames.

    Args:
        folder: See :func:`find_videos`.
        frames: Whether to look for folders of frames.

    Raises:
        FileNotFoundError: If there is no such folder, or nothing in it.
    """
    if not osp.isdir(folder):
        raise FileNotFoundError(f'There is no folder {folder!r}.')
    paths, litter, others, seen = [], [], [], set()
    top: list[str] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = osp.realpath(parent)
        if real in seen:  # a link back
            folders.clear()
            continue
        seen.add(real)
        inside = osp.relpath(parent, folder)
        inside = '' if inside == '.' else inside
        litter += [
            osp.join(inside, name, '') for name in folders if is_litter(name)
        ]
        folders[:] = [name for name in folders if not is_litter(name)]
        top = sorted(folders) if not inside else top
        for name in names:
            path = osp.join(inside, name)
            if is_litter(name):
                litter.append(path)
            elif not _is_wanted(osp.join(parent, name), frames):
                others.append(path)
            else:
                paths.append(path)
    if frames:
        paths = list({osp.dirname(path) or '.' for path in paths})
    if not paths:
        what, ends = 'video', VIDEO_EXTENSIONS
        if frames:
            what, ends = 'image', IMAGE_EXTENSIONS
        raise FileNotFoundError(
            f'There is no {what} below {folder!r} (looked for '
            f'{", ".join(ends)}{"" if frames else " and others"}).'
        )
    return Found(sorted(paths), top, sorted(litter), sorted(others))


def _is_wanted(path: str, frames: bool) -> bool:
    if frames:
        return path.lower().endswith(IMAGE_EXTENSIONS)
    return is_video(path)
