# Copyright (c) MotionMAE contributors. All rights reserved.
"""Reconstructions as fields of data samples.

Shapes: B clips, C channels, T frames, H W size.
"""

from typing import Any

from ...models import MotionMAE
from ...visualization.motion import motion_map
from ...visualization.reconstruction import reconstruct_batch
from ...visualization.reconstruction_sheet import statistics_note


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
        ``masked`` (B, C, T, H, W); ``pixel_reconstruction``; ``motion``,
        ``motion_reconstruction`` and ``motion_map`` (B, T, H, W), as far as
        the model predicts them.
    """
    result = reconstruct_batch(model, batch, statistics)
    videos = result.videos
    fields: dict[str, Any] = dict(
        errors=result.errors, input=videos['input'], masked=videos['masked']
    )
    for name in model.head.targets:
        fields[f'{name}_reconstruction'] = videos[name]
    if 'motion' in videos:
        fields['motion'] = videos['true_motion']
        fields['motion_map'] = motion_map(videos['motion'])
    return fields


def statistics_notes(model: MotionMAE, statistics: str) -> dict[str, str]:
    """For each target of a model its :func:`statistics_note`."""
    head = model.head
    return {
        name: statistics_note(head.norms[name], statistics)
        for name in head.targets
    }
