# Copyright (c) MotionMAE contributors. All rights reserved.
import os
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
