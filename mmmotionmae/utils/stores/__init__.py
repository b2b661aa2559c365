# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files of this machine, of stores behind a network, and in tar shards."""

from .backends import find_store
from .files import open_file, read_file, stamp_of
from .names import (
    find_member,
    is_plain,
    is_there,
    is_url,
    join_name,
    title_of,
)

__all__ = [
    'find_member',
    'find_store',
    'is_plain',
    'is_there',
    'is_url',
    'join_name',
    'open_file',
    'read_file',
    'stamp_of',
    'title_of',
]
