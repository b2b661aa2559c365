# Copyright (c) MotionMAE contributors. All rights reserved.
"""What is measured of video object segmentation, and the scores of DAVIS."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from model_memory import Memory
from vos_official import load_davis_scores
from vos_setup import NUM_OBJECTS, draw_masks

from mmmotionmae.evaluation.functional.davis import evaluate_sequence

Step = Callable[[], Any]
OURS = 'ours'


@dataclass
class Task:
    """What contenders do in a step.

    Attributes:
        title: What it is, for a reader.
        unit: What is counted, ``'frame'`` or ``'frame-object'``.
        count: How many of these a step does.
        device: Where it runs.
        reference: Name of the official contender, which may be missing.
        steps: For each contender.
        facts: Other figures: whether results are the same, and the like.
        memory: What a step adds at its peak, where that is measured.
    """

    title: str
    unit: str
    count: int
    device: torch.device
    reference: str
    steps: dict[str, Step]
    facts: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)


LAG = 5  # frames by which masks that are scored come late


def scoring(clone: str | None, num_frames: int, size: tuple[int, int]) -> Task:
    """J and F of generated masks, on one core.

    Args:
        clone: Folder of the official code, if there is one.
        num_frames: How many are scored.
        size: (H, W).
    """
    masks = draw_masks(num_frames + LAG, size)
    gt, masks = masks[LAG:], masks[:-LAG]
    ids = np.arange(1, NUM_OBJECTS + 1)[:, None, None, None]
    steps: dict[str, Step] = {}
    facts: dict[str, Any] = {}

    def ours() -> tuple[np.ndarray, np.ndarray]:
        scores = evaluate_sequence(gt, masks, NUM_OBJECTS)
        return (
            np.array([score.region for score in scores]),
            np.array([score.boundary for score in scores]),
        )

    if clone:
        score = load_davis_scores(clone)
        gt_each, masks_each = gt == ids, masks == ids
        steps['official'] = lambda: score(gt_each, masks_each)
        facts['largest_difference'] = float(
            np.abs(np.subtract(steps['official'](), ours())).max()
        )
    steps[OURS] = ours
    mean_j, mean_f = np.mean(ours(), (1, 2))
    facts |= dict(mean_j=float(mean_j), mean_f=float(mean_f))
    return Task(
        f'J and F, one core, {num_frames} frames of {size[0]}x{size[1]} with '
        f'{NUM_OBJECTS} objects',
        'frame-object',
        num_frames * NUM_OBJECTS,
        torch.device('cpu'),
        'official',
        steps,
        facts,
    )
