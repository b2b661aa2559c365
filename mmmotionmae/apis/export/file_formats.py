# Copyright (c) MotionMAE contributors. All rights reserved.
"""ONNX files, and exported programs of PyTorch (``.pt2``)."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from ...utils.choices import DEFAULT_OPSET
from ...utils.errors import UsageError
from .clip_model import ClipModel

# A file takes 2 GB; beyond this, weights go into a file beside it.
BYTES_IN_FILE = 1536 * 2**20


def save_onnx(
    program: ExportedProgram,
    path: Path,
    output: str,
    metadata: dict[str, Any],
    opset: int = DEFAULT_OPSET,
) -> None:
    """Write an ONNX file.

    Its input is called ``clips``. Weights of more than 1.5 GB go into
    ``<path>.data``.

    Args:
        program: The graph.
        path: The file.
        output: Name of the output.
        metadata: What the file tells of itself: texts as they are, anything
            else as JSON.
        opset: Version of the operators, one of :data:`OPSETS`.

    Raises:
        UsageError: If this PyTorch cannot write that version.
    """
    with _quiet():
        onnx_program = torch.onnx.export(
            program,
            dynamo=True,
            input_names=['clips'],
            output_names=[output],
            # The graph is there already; this only names its free dimension.
            dynamic_shapes=(
                dict(clips={0: 'batch'}) if program.range_constraints else None
            ),
            opset_version=opset,
            verbose=False,
        )
    assert onnx_program is not None
    model = onnx_program.model
    if model.opset_imports[''] != opset:
        raise UsageError(
            f'PyTorch {torch.__version__} cannot write ONNX opset {opset} of '
            f'this model; it can write {model.opset_imports[""]}.'
        )
    model.metadata_props.update(as_text(metadata))
    size = sum(v.nbytes for v in program.state_dict.values())
    onnx_program.save(path, external_data=size > BYTES_IN_FILE)


def as_text(metadata: dict[str, Any]) -> dict[str, str]:
    """Metadata as ONNX holds it: texts as they are, anything else as JSON.

    Examples:
        >>> as_text(dict(color_order='RGB', num_frames=16, mean=[0.5]))
        {'color_order': 'RGB', 'num_frames': '16', 'mean': '[0.5]'}
    """
    return {
        key: value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes about itself and about torchvision."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', FutureWarning)
            warnings.simplefilter('ignore', DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


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
                None
                if batch_size
                # PyTorch 2.7 refuses a dimension without end.
                else dict(clips={0: Dim('batch', max=2**31 - 1)})
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
