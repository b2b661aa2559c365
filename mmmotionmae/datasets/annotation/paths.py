# Copyright (c) MotionMAE contributors. All rights reserved.
"""Paths of a list, as files of this system."""

import os
import os.path as osp

from ...utils.errors import AnnotationError
from ...utils.stores import is_url
from .index import VideoList


def locate(prefix: str, path: str) -> str:
    r"""Find where a path of a list leads.

    Args:
        prefix: The folder that it is relative to, or ``''``.
        path: As it is written; addresses, ``s3://...``, stay as they are.
            Where there is no file with ``\`` in its name, it is one that was
            written on Windows, and stands for ``/``.
    """
    if is_url(path):
        return path
    whole = osp.join(prefix, path)
    if '\\' in path and os.sep != '\\' and not osp.lexists(whole):
        return osp.join(prefix, path.replace('\\', '/'))
    return whole


def check_windows_paths(
    ann_file: str, listed: VideoList, prefix: str = ''
) -> None:
    r"""Make sure that paths of Windows lead somewhere.

    Args:
        ann_file: The list, for the message.
        listed: What is in it.
        prefix: The folder that paths are relative to.

    Raises:
        AnnotationError: If one has a drive; or if the first with a ``\`` does
            not lead to a file, not even with ``/`` in its place.
    """
    if os.sep == '\\' or is_url(prefix):
        return
    for name in ('drive', 'backslash'):
        row = listed.facts[name]
        if row is None:
            continue
        path = listed.path_of(row)
        there = osp.lexists(osp.join(prefix, path))
        if name == 'backslash':
            there = there or osp.lexists(locate(prefix, path))
        if not there:
            raise AnnotationError(
                f'{ann_file} has paths of Windows, such as {path!r}: write / '
                'for each backslash, relative to data_prefix.'
            )
