# Copyright (c) MotionMAE contributors. All rights reserved.
"""Safetensors files, which cannot hold code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..utils.errors import CheckpointError
from ..utils.files import complete_file


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read all tensors of a file.

    Returns:
        The tensors, and the metadata; JSON in it is decoded.

    Raises:
        CheckpointError: If it is damaged, or a file of another kind.
    """
    try:
        with safe_open(str(path), framework='pt', device='cpu') as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OverflowError, MemoryError) as error:
        raise CheckpointError(
            f'{path} is not a readable safetensors file: it is truncated, or '
            f'a file of another kind ({error}).'
        ) from error
    return tensors, {name: _decode(text) for name, text in metadata.items()}


def write_safetensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, Any]
) -> None:
    """Write a file; it appears under its name once it is complete.

    Args:
        tensors: Any.
        path: Replaced if it exists.
        metadata: Text as it is, anything else as JSON.
    """
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in metadata.items()
    }
    # The format takes no views, nor tensors that share memory.
    plain = {
        name: tensor.detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with complete_file(path) as temporary:
        save_file(plain, str(temporary), {'format': 'pt'} | texts)


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
