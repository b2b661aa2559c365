# Copyright (c) MotionMAE contributors. All rights reserved.
"""Videos elsewhere than in plain files: in a tar shard, behind HTTP."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .clips import Source
from .http_server import serve


class Place(NamedTuple):
    """Where the videos of a source are read from.

    Attributes:
        name: For the table.
        ann_file: The list, in the order of the source's.
        prefix: What its paths are relative to.
    """

    name: str
    ann_file: str
    prefix: str


@contextmanager
def store(source: Source) -> Iterator[list[Place]]:
    """Pack the videos of a source, and serve them on this machine.

    Yields:
        A tar shard on disk; plain files behind HTTP; the shard behind it.
    """
    shard = source.folder / 'videos.tar'
    with tarfile.open(shard, 'w', dereference=True) as file:
        for path in source.paths:
            file.add(path, path.name)
    with tarfile.open(shard) as file:
        lines = [
            f'{shard.name}@{member.offset_data}@{member.size} {label}\n'
            for label, member in enumerate(file)
        ]
    ann_file = source.folder / 'shards.txt'
    ann_file.write_text(''.join(lines), encoding='utf-8')
    with serve(source.folder) as url:
        yield [
            Place('tar', str(ann_file), str(source.folder)),
            Place('HTTP', source.ann_file, url),
            Place('tar by HTTP', str(ann_file), url),
        ]
