# Copyright (c) MotionMAE contributors. All rights reserved.
"""Predictions as dictionaries, and in files."""

from pathlib import Path
from typing import Any

import mmengine
from mmaction.structures import ActionDataSample

from ...utils.errors import UsageError
from ...utils.files import complete_file

# Fields of a sample: tensors whose first dimension is the clip.
ARRAYS = (
    'mask',
    'input',
    'pixel_reconstruction',
    'motion',
    'motion_reconstruction',
    'motion_map',
    'feature',
)
_VALUES = ('name', 'source', 'frame_inds', 'statistics', 'errors')
_FORMATS = {'.json': 'json', '.pkl': 'pkl'}


def drop_arrays(sample: ActionDataSample, keep: bool) -> None:
    """Remove what only pictures need, and, unless kept, all arrays."""
    for name in ('masked', *(() if keep else ARRAYS)):
        sample.pop(name, None)


def sample_to_dict(
    sample: ActionDataSample, arrays: bool = True
) -> dict[str, Any]:
    """A prediction without MMEngine's and PyTorch's types.

    Args:
        sample: What :meth:`MotionMAEInferencer.forward` returns.
        arrays: Whether arrays are among it, as NumPy's; what is left without
            them can be written as JSON.

    Returns:
        What the sample has of all fields.
    """
    result = {name: sample.get(name) for name in _VALUES if name in sample}
    if arrays:
        result |= {
            name: sample.get(name).numpy() for name in ARRAYS if name in sample
        }
    return result


def check_out_file(path: str, overwrite: bool) -> None:
    """Make sure that predictions can be written to a file.

    Raises:
        UsageError: If its name does not tell the format, or it exists and
            must not be replaced.
    """
    if not path:
        return
    if Path(path).suffix not in _FORMATS:
        raise UsageError(
            f'Predictions are written to {" or ".join(_FORMATS)} (the latter '
            f'with all arrays), which {path!r} does not end in.'
        )
    if not overwrite:
        refuse_to_overwrite([Path(path)])


def refuse_to_overwrite(paths: list[Path]) -> None:
    """Raise a :class:`UsageError` that names the first path that exists."""
    for path in paths:
        if path.exists():
            raise UsageError(
                f'{str(path)!r} exists already; choose another name or '
                'folder, or write over it (overwrite).'
            )


def write_results(path: str, results: dict[str, Any]) -> None:
    """Write predictions.

    Args:
        path: A .json or .pkl file, replaced if it exists.
        results: As the format can hold them.
    """
    with complete_file(Path(path)) as temporary:
        mmengine.dump(
            results, str(temporary), file_format=_FORMATS[Path(path).suffix]
        )
