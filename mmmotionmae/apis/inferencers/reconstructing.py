# Copyright (c) MotionMAE contributors. All rights reserved.
"""Reconstructions as fields of data samples.

Shapes: B clips, C channels, T frames, H W size.
"""

from typing import Any

from ...models import MotionMAE
from ...visualization.reconstruction import reconstruct_batch


def reconstruct_fields(
    model: MotionMAE, batch: dict[str, Any], statistics: str
) -> dict[str, Any]:
    """Reconstruct a batch.

    Args:
        model: A trained model.
        batch: See :func:`reconstruct_batch`; B counts all clips.
        statistics: As in :meth:`MotionMAEHead.predict`.

    Returns:
        For each field B values, on the CPU: ``errors``; ``input`` and
        ``masked`` (B, C, T, H, W); and for each target that is a video
        ``NAME`` (unless it is the input), ``NAME_reconstruction`` and, if it
        has a size, ``NAME_reconstruction_map`` (B, T, H, W).
    """
    result = reconstruct_batch(model, batch, statistics)
    fields: dict[str, Any] = dict(result.videos, errors=result.errors)
    for name, target in model.targets.items():
        key = f'{name}_reconstruction'
        size = target.magnitude(fields[key]) if key in fields else None
        if size is not None:
            fields[f'{key}_map'] = size
    return fields
