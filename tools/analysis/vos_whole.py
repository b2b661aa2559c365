# Copyright (c) MotionMAE contributors. All rights reserved.
"""From image files to PNG masks: ours beside DINO's, time and memory."""

import tempfile
from pathlib import Path

import torch
from benchmark_machine import find_device
from mmengine.registry import init_default_scope
from model_memory import Memory, peak_of_tensors, peak_on_gpu, peak_resident
from vos_official import Dino
from vos_setup import Setup
from vos_tasks import OURS, Step, Task

import mmmotionmae  # noqa: F401  (registers everything)
from mmmotionmae.evaluation import DAVISMetric


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
