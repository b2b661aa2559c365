# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files and folders that appear once they are complete; order of names."""

import ctypes
import errno
import itertools
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

_LITTER = {
    '$recycle.bin',
    '#recycle',
    '@eadir',
    '__macosx',
    '__pycache__',
    'desktop.ini',
    'ehthumbs.db',
    'lost+found',
    'system volume information',
    'thumbs.db',
}
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
# Of renameat2(2).
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def complete_file(path: Path, suffix: str = '.tmp') -> Iterator[Path]:
    """Let a file appear under its name only once it is complete.

    Args:
        path: The file, replaced if it exists. Missing parent folders are
            made.
        suffix: Of the temporary name; where several processes write the
            file, each has its own.

    Yields:
        Where to write: ``<path><suffix>``, renamed at the end, or removed
        after an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}{suffix}')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int = 2) -> None:
    """Write a JSON file in a :func:`complete_file`.

    Args:
        path: The file, replaced if it exists.
        content: Plain data.
        indent: Spaces of each level.
    """
    text = json.dumps(content, indent=indent)
    with complete_file(path) as temporary:
        temporary.write_text(f'{text}\n', encoding='utf-8')


@contextmanager
def complete_files(folder: Path, *names: str) -> Iterator[Path]:
    """Let files that belong together appear only once all are complete.

    Args:
        folder: Where they belong; made if it is missing. Other files in it
            stay.
        *names: The files, replaced if they exist, removed if they are not
            written. While others are replaced, the first is not there.

    Yields:
        A folder to write them into. It is removed at the end; after an error
        nothing is left.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(
            dir=folder, prefix=f'.{names[0]}.'
        ) as temporary:
            made = Path(temporary)
            yield made
            pairs = [(made / name, folder / name) for name in names]
            if any(p.exists() for pair in pairs[1:] for p in pair):
                pairs[0][1].unlink(missing_ok=True)
            for new, old in reversed(pairs):
                if new.exists():
                    os.replace(new, old)
                else:
                    old.unlink(missing_ok=True)
    except BaseException:
        if is_new:
            with suppress(OSError):  # not empty
                folder.rmdir()
        raise


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


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Let a folder appear under its name only once it is complete.

    Args:
        path: The folder, replaced if it exists. Missing parent folders are
            made.

    Yields:
        A folder to write into. It is renamed at the end, or removed after an
        error.
    """
    # In distributed tests two ranks may have the same sequence.
    rank = import_module('mmengine.dist').get_rank()
    temporary = path.with_name(f'{path.name}.rank{rank}.tmp')
    shutil.rmtree(temporary, ignore_errors=True)
    new = temporary / 'new'
    new.mkdir(parents=True)
    try:
        yield new
        _replace_folder(new, path, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Rename a complete folder; what is in the way is removed.

    Args:
        new: The folder.
        path: Its new name, in the same folder.
    """
    rubbish = path.with_name(f'{path.name}.old.tmp')
    remove(rubbish)
    rubbish.mkdir()
    try:
        _replace_folder(new, path, rubbish)
    finally:
        remove(new)  # what was in the way, if they were exchanged
        remove(rubbish)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replace_folder(new: Path, path: Path, rubbish: Path) -> None:
    """Rename a folder; one that is in the way is moved to the rubbish.

    Other processes may do the same at the same time, or read the one that is
    in the way: where the file system can, the two are exchanged at once.
    """
    for number in itertools.count():
        try:
            new.rename(path)
            return
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
        if _exchange(new, path):
            return
        with suppress(FileNotFoundError):
            path.rename(rubbish / f'old{number}')


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders, if the system can."""
    rename = getattr(ctypes.CDLL(None), 'renameat2', None)  # Linux
    if rename is None:
        return False
    names = map(os.fsencode, (one, other))
    arguments = [x for name in names for x in (_AT_FDCWD, name)]
    return bool(rename(*arguments, _RENAME_EXCHANGE) == 0)


def by_number(name: str) -> tuple[list[str | int], str]:
    """Key to sort names by the numbers in them: ``a_2`` before ``a_10``."""
    parts = re.split(r'(\d+)', name)  # every second one is a number
    return [int(p) if i % 2 else p for i, p in enumerate(parts)], name


def is_litter(name: str) -> bool:
    """Tell whether a file or folder is hidden, or left by a system.

    Args:
        name: Without folders: ``.DS_Store``, ``._1.mp4``, ``__MACOSX``.
    """
    return name.startswith('.') or name.lower() in _LITTER
