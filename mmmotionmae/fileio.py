# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Let a file appear under its name only once it is complete.

    Args:
        path: The file, replaced if it exists. Missing parent folders are
            made.

    Yields:
        Where to write: ``<path>.tmp``, renamed at the end, or removed after
        an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.tmp')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a file or folder of an earlier run, so that nothing is lost.

    Args:
        path: It becomes ``<path>-<date and time of its last change>``.

    Returns:
        Its new path.
    """
    changed = time.localtime(path.stat().st_mtime)
    name = f'{path.name}-{time.strftime("%Y%m%d-%H%M%S", changed)}'
    earlier = path.with_name(name)
    number = 1
    while earlier.exists():
        earlier = path.with_name(f'{name}-{number}')
        number += 1
    return path.rename(earlier)
