# Copyright (c) MotionMAE contributors. All rights reserved.
"""Folders that are checkpoints: names in them, and whether one is whole."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from .errors import CheckpointError

INDEX = 'index.json'
REST = 'rest.pth'
_PART = re.compile(r'__\d+_\d+\.distcp')
_SIZES = ('offset', 'shape')


def is_sharded(path: Path) -> bool:
    """Tell whether a path is such a folder, also a broken one."""
    return path.is_dir() and any(
        path.joinpath(name).exists() for name in (INDEX, REST, '.metadata')
    )


def temporary_folder(folder: Path) -> Path:
    """The folder beside it that processes write their parts into."""
    return folder.with_name(f'{folder.name}.tmp')


def is_half_written(path: Path) -> bool:
    """Tell whether a folder is what a killed process has left of one."""
    return (
        path.suffix == '.tmp'
        and path.is_dir()
        and all(
            _PART.fullmatch(file.name)
            or file.name.removesuffix('.tmp') in (INDEX, REST, '.metadata')
            for file in path.iterdir()
        )
    )


def read_index(folder: Path) -> dict[str, Any]:
    """Read which tensor, or part of one, is where.

    Returns:
        ``tensors``: for each name its ``dtype``, ``shape`` and ``parts``;
        each of these has ``offset`` and ``shape``, and ``file``, ``start``
        and ``length`` in bytes.

    Raises:
        CheckpointError: If it cannot be read, or names other files.
    """
    try:
        content = json.loads((folder / INDEX).read_text())
        for tensor in content['tensors'].values():
            _check_sizes(tensor['shape'])
            for part in tensor['parts']:
                for key in _SIZES:
                    _check_sizes(part[key])
                _check_sizes([part['start'], part['length']])
                if not _PART.fullmatch(part['file']):
                    raise ValueError(part['file'])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f'{folder / INDEX} is not a readable index of a checkpoint '
            f'({error}).'
        ) from error
    return dict(content)


def _check_sizes(sizes: Any) -> None:
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError(sizes)


def problem_of_folder(folder: Path) -> str | None:
    """Reason why such a folder cannot be read; None: it can."""
    if not (folder / INDEX).exists():
        return f'is incomplete, or was not written by this package: no {INDEX}'
    try:
        index = read_index(folder)
        with zipfile.ZipFile(folder / REST) as archive:
            if archive.testzip() is not None:
                return f'is damaged ({REST})'
    except CheckpointError:
        return f'is damaged ({INDEX})'
    except (OSError, zipfile.BadZipFile):
        return f'is damaged ({REST})'
    ends: dict[str, int] = {}
    for tensor in index['tensors'].values():
        for part in tensor['parts']:
            end = part['start'] + part['length']
            ends[part['file']] = max(end, ends.get(part['file'], 0))
    for name, end in ends.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size < end:
            return f'is damaged ({name} is missing or truncated)'
    return None
