# Copyright (c) MotionMAE contributors. All rights reserved.
"""From a checkpoint to a file or folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..utils.errors import CheckpointError
from ..utils.files import complete_file, complete_files, write_json
from .files import write_safetensors
from .formats import FORMATS
from .specs import Checkpoint, RawCheckpoint
from .strict import check_finite

# The entry of a .pth file that the tensors lie under.
ENTRIES = {'mmaction': 'state_dict', 'videomae': 'model', 'mae_st': 'model'}


def write_checkpoint(
    checkpoint: Checkpoint,
    path: str | Path,
    format: str = 'mmaction',
    overwrite: bool = False,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a checkpoint in a format.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        path: A file, .pth or .safetensors; for ``'huggingface'`` a folder.
        format: ``'mmaction'``, ``'videomae'``, ``'mae_st'`` or
            ``'huggingface'``.
        overwrite: Whether ``path`` may exist.
        dtype: Of the weights, but not of positions, which are small and, if
            sines, exact. None: as they are.

    Returns:
        ``path``.

    Raises:
        CheckpointError: If the format cannot hold the checkpoint, a tensor
            is not finite, or there is something already.
        ValueError: If there is no such format.
    """
    path = Path(path).expanduser()
    if format not in FORMATS:
        raise ValueError(
            f'format must be one of {", ".join(FORMATS)}, not {format!r}.'
        )
    is_folder = format == 'huggingface'
    if is_folder == (path.suffix in ('.pth', '.pt', '.bin', '.safetensors')):
        raise CheckpointError(
            f'{path} must be '
            + ('a folder.' if is_folder else 'a .pth or .safetensors file.')
        )
    if path.exists() and not overwrite:
        raise CheckpointError(
            f'{path} exists already; choose another name, or write over it '
            '(--overwrite).'
        )
    if dtype is not None:
        tensors = {
            name: tensor.to(dtype)
            if tensor.is_floating_point() and 'pos_embed' not in name
            else tensor
            for name, tensor in checkpoint.tensors.items()
        }
        checkpoint = replace(checkpoint, tensors=tensors)
    check_finite(checkpoint.tensors, checkpoint.source)
    raw = FORMATS[format].write(checkpoint)
    if is_folder:
        _write_folder(raw, path)
    elif path.suffix == '.safetensors':
        write_safetensors(raw.tensors, path, raw.settings)
    else:
        # Copies, so that a view does not drag along what it is a view of.
        tensors = {n: t.detach().cpu().clone() for n, t in raw.tensors.items()}
        # Opened here: a full disk is an OSError only then.
        with complete_file(path) as temporary, temporary.open('wb') as file:
            torch.save({ENTRIES[format]: tensors} | raw.settings, file)
    return path


def _write_folder(raw: RawCheckpoint, folder: Path) -> None:
    """Hugging Face's: weights, and settings in files of their own.

    The files of an earlier one are replaced; any other stays.
    """
    settings: dict[str, Any] = dict(raw.settings)
    texts = {'preprocessor_config.json': settings.pop('preprocessor')}
    texts['config.json'] = settings
    with complete_files(folder, 'model.safetensors', *texts) as made:
        write_safetensors(raw.tensors, made / 'model.safetensors', {})
        for name, content in texts.items():
            write_json(made / name, content)
