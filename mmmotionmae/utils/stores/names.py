# Copyright (c) MotionMAE contributors. All rights reserved.
"""Names of files: paths, URLs and members of tar shards."""

import os.path as osp
import re
from typing import NamedTuple

# Also two protocols in a row, of which the first caches: simplecache::s3://
_URL = re.compile(r'[A-Za-z][\w+.-]*(::[A-Za-z][\w+.-]*)*://')
_MEMBER = re.compile(r'(.+\.tar)@(\d+)@(\d+)', re.DOTALL)


class Member(NamedTuple):
    """A part of a file that lies in an uncompressed tar file, the shard.

    Attributes:
        shard: Path or URL of the tar file.
        offset: Of the first byte of the content, after the header.
        size: Of the content, in bytes.
    """

    shard: str
    offset: int
    size: int


def is_url(name: str) -> bool:
    """Tell whether a name has a protocol, such as ``s3://``."""
    return _URL.match(name) is not None


def find_member(name: str) -> Member | None:
    """The member of a shard that a name stands for; None if for none.

    Examples:
        >>> find_member('s3://bucket/00000.tar@1536@20480')
        Member(shard='s3://bucket/00000.tar', offset=1536, size=20480)
        >>> find_member('clip@1.mp4')
    """
    match = _MEMBER.fullmatch(name)
    return match and Member(match[1], int(match[2]), int(match[3]))


def is_plain(name: str) -> bool:
    """Tell whether a name is a path of this machine, and a whole file."""
    return not is_url(name) and find_member(name) is None


def is_there(name: str) -> bool:
    """Tell whether there is a file, or folder, on this machine.

    What lies elsewhere is taken to be there.
    """
    member = find_member(name)
    return is_url(name) or osp.exists(member.shard if member else name)


def join_name(folder: str, name: str) -> str:
    """A name that may be relative to a folder, which may be a URL.

    Examples:
        >>> join_name('s3://bucket/train', 'a.mp4')
        's3://bucket/train/a.mp4'
        >>> join_name('/data', 's3://bucket/a.mp4')
        's3://bucket/a.mp4'
    """
    return name if is_url(name) else osp.join(folder, name)


def title_of(name: str) -> str:
    """The file's own name, without folders and ending.

    Examples:
        >>> title_of('https://host/videos/a.b.mp4')
        'a.b'
        >>> title_of('shards/00001.tar@512@99')
        '00001-512'
    """
    member = find_member(name)
    path = member.shard if member else name
    title = osp.splitext(osp.basename(path))[0]
    return f'{title}-{member.offset}' if member else title
