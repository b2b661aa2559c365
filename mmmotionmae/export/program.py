# Copyright (c) MotionMAE contributors. All rights reserved.
"""Exported programs of PyTorch, ``.pt2`` files."""

import json
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from .clip_model import ClipModel

METADATA_FILE = 'metadata.json'


def make_program(
    model: ClipModel, batch_size: int | None = None
) -> ExportedProgram:
    """Capture the graph.

    Args:
        model: What to capture.
        batch_size: The only one that the program takes. Defaults to any.
    """
    clips = model.random_clips(batch_size or 2)
    with torch.no_grad():
        return torch.export.export(
            model,
            (clips,),
            dynamic_shapes=(
                None if batch_size else dict(clips={0: Dim('batch')})
            ),
            strict=False,
        )


def save_program(
    program: ExportedProgram, path: Path, metadata: dict[str, Any]
) -> None:
    """Write a ``.pt2`` file, with ``metadata.json`` in it."""
    # The clips that the graph was captured with need not be in the file.
    program.example_inputs = None
    torch.export.save(
        program, path, extra_files={METADATA_FILE: json.dumps(metadata)}
    )


def load_program(path: Path) -> tuple[ExportedProgram, dict[str, Any]]:
    """Read a ``.pt2`` file.

    Returns:
        The program and its metadata. ``program.module()`` is called with
        clips.
    """
    extra = {METADATA_FILE: ''}
    program = torch.export.load(path, extra_files=extra)
    return program, json.loads(extra[METADATA_FILE])
