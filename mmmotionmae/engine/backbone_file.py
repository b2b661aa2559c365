# Copyright (c) MotionMAE contributors. All rights reserved.
"""Encoders in files of their own, with a card each."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.files import write_safetensors
from ..utils.files import complete_file, set_aside

FORMATS = ('pth', 'safetensors')
PREFIX = 'backbone.'

# What wrappers put into names: DDP of each part, FSDP, activation
# checkpointing, torch.compile.
_WRAPPERS = re.compile(
    r'^module\.|(?<=^backbone\.)module\.'
    r'|_fsdp_wrapped_module\.|_checkpoint_wrapped_module\.|_orig_mod\.'
)


def encoder_tensors(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the encoder, as MMAction2 names them.

    Args:
        state_dict: Of a model with a ``backbone``, also of a wrapped one.

    Returns:
        Copies on the CPU, sorted by name, all names with the prefix
        ``backbone.``. Empty if there are none, or parts of tensors only.
    """
    tensors = {}
    for key, value in state_dict.items():
        name = _WRAPPERS.sub('', key)
        if name.startswith(PREFIX) and isinstance(value, Tensor):
            if hasattr(value, 'full_tensor') or not value.numel():
                return {}  # sharded: of FSDP 2, or of ZeRO 3
            # Copied: a view would be saved with all that it is a view of.
            copy = torch.empty_like(
                value, device='cpu', memory_format=torch.contiguous_format
            )
            tensors[name] = copy.copy_(value.detach())
    return dict(sorted(tensors.items()))


def write_backbone(
    path: Path, tensors: dict[str, Tensor], card: dict[str, Any]
) -> list[tuple[Path, Path]]:
    """Write an encoder and, beside it, its card (``.json``).

    Both appear once they are complete. A file that is there is replaced if
    its card has the same ``run``; else it is renamed.

    Args:
        path: Ends in one of ``FORMATS``.
        tensors: See :func:`encoder_tensors`.
        card: Plain data with the entry ``run``; also written into the file.

    Returns:
        Files of other runs: where each was, and where it is now.
    """
    beside = path.with_suffix('.json')
    renamed = []
    if _run_of(beside) != card['run']:
        renamed = [
            (file, set_aside(file)) for file in (path, beside) if file.exists()
        ]
    if path.suffix == '.safetensors':
        write_safetensors(tensors, path, dict(meta=card))
    else:
        with complete_file(path) as temporary:
            torch.save(dict(state_dict=tensors, meta=card), temporary)
    with complete_file(beside) as temporary:
        text = json.dumps(card, indent=2) + '\n'
        temporary.write_text(text, encoding='utf-8')
    return renamed


def _run_of(card: Path) -> str | None:
    """The run that a card is of; None if there is no card of ours."""
    try:
        content = json.loads(card.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return content.get('run') if isinstance(content, dict) else None
