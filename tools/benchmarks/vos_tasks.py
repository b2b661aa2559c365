# Copyright (c) MotionMAE contributors. All rights reserved.
"""Segmentation from files to files, and the scores of DAVIS."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import init_default_scope

from mmmotionmae.evaluation import DAVISMetric
from mmmotionmae.evaluation.functional.davis import evaluate_sequence

from .clones.dino import Dino, load_davis_scores
from .common import find_device
from .memory import Memory, peak_of_tensors, peak_on_gpu, peak_resident
from .vos_setup import NUM_OBJECTS, Setup, draw_masks

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


def whole_program(key: str, setup: Setup, dino: Dino | None) -> Step:
    """From image files to PNG masks, with a ViT of random weights.

    Args:
        key: ``'DINO'`` or ``'ours'``.
        setup: What all have in common.
        dino: The official code; needed for ``'DINO'`` only.

    Returns:
        A step: all sequences. It returns how many masks were written.
    """
    dataset = setup.dataset(setup.size)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    if key == OURS:
        model = setup.vit_model()

        def run(folder: str) -> None:
            metric = DAVISMetric(folder, num_workers=0)
            for index in range(len(dataset)):
                data = dataset[index]
                video = data['inputs'].to(setup.device)
                samples = model.predict([video], [data['data_samples']])
                metric.save(samples[0].to_dict())
    else:
        assert dino is not None
        code, vit = dino, dino.build_vit(setup.arch)

        def run(folder: str) -> None:
            for info in infos:
                code.segment(
                    vit, info['frame_paths'], info['mask_paths'][0], folder
                )

    def step() -> int:
        with tempfile.TemporaryDirectory() as folder:
            run(folder)
            return len(list(Path(folder).rglob('*.png')))

    return step


def end_to_end(setup: Setup, dino: Dino | None) -> Task:
    """From image files to PNG masks.

    Args:
        setup: What all have in common.
        dino: The official code, if it is there.
    """
    keys = ['DINO', OURS] if dino else [OURS]
    dataset = setup.dataset(setup.size)
    names = [dataset.get_data_info(i)['sequence'] for i in range(len(dataset))]
    return Task(
        f'from image files to PNG masks, ViT-{setup.arch}/'
        f'{setup.patch_size} of random weights, {dataset.num_frames} frames '
        f'({", ".join(names)})',
        'frame',
        dataset.num_frames,
        torch.device(setup.device),
        'DINO',
        {key: whole_program(key, setup, dino) for key in keys},
    )


def measure_memory(key: str, setup: Setup) -> Memory:
    """What :func:`whole_program` adds at its peak, in this process.

    The neighbourhood of DINO's code is there before.
    """
    init_default_scope('mmaction')
    device = find_device(setup.device)
    if setup.num_threads:
        torch.set_num_threads(setup.num_threads)
    dino = None
    if key == 'DINO':
        assert setup.dino is not None
        dino = Dino(setup.dino, setup.patch_size, setup.size, device)
        dataset, patch = setup.dataset(setup.size), setup.patch_size
        for index in range(len(dataset)):
            height, width = dataset[index]['data_samples'].img_shape
            dino.neighborhood(height // patch, width // patch)
    step = whole_program(key, setup, dino)
    if device.type == 'cuda':
        return Memory(peak_on_gpu(step))
    resident = peak_resident(step)
    return Memory(peak_of_tensors(step), resident)
