# Copyright (c) MotionMAE contributors. All rights reserved.
"""Weights that come with the package, by name."""

import os.path as osp
from pathlib import Path

from ..utils.errors import CheckpointError, UsageError

SCHEME = 'mmmotionmae://'
FOLDER = Path(__file__).parents[1] / 'weights'


def shipped_weights() -> list[str]:
    """Names of the weights that the package ships, with the scheme."""
    return [
        SCHEME + path.stem for path in sorted(FOLDER.glob('*.safetensors'))
    ]


def locate_checkpoint(name: str) -> str:
    """Path of weights that the package ships.

    Args:
        name: ``mmmotionmae://NAME``; any other path or URL.

    Returns:
        The file; any other path or URL as it is.

    Raises:
        CheckpointError: If there are none of that name.
    """
    if not name.startswith(SCHEME):
        return name
    names = shipped_weights()
    stem = name.removeprefix(SCHEME).removesuffix('.safetensors')
    if SCHEME + stem not in names:
        raise CheckpointError(
            f'The package ships no weights {name!r}, but '
            f'{", ".join(names) or "none at all"}.'
        )
    return str(FOLDER / f'{stem}.safetensors')


def refuse_missing_checkpoint(path: str) -> None:
    """Make sure that there is such a file or folder; URLs are not asked.

    Raises:
        CheckpointError: If the package ships no weights of that name.
        UsageError: If there is none.
    """
    path = locate_checkpoint(path)
    if '://' not in path and not osp.exists(path):
        raise UsageError(f'There is no checkpoint {path!r}.')
