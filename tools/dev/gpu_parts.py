# Copyright (c) MotionMAE contributors. All rights reserved.
"""The parts of ``gpu_check.py``, each for a process of its own."""

import json
import tempfile
import time
import warnings
from collections.abc import Callable
from os import environ
from pathlib import Path
from typing import Any

import torch
from benchmarks import export, model, training
from benchmarks.common import ROOT, about_machine, synchronize
from benchmarks.training_setup import on_device
from benchmarks.vos_setup import Setup, write_generated
from gpu_steps import CLIPS, CONFIGS, counting_waits, parity, take_steps
from mmengine.registry import init_default_scope
from mock_device import NAME, MockGPU


class NotHereError(Exception):
    """Something that this machine does not have."""


def run(part: str, device: str, tiny: bool) -> dict[str, Any]:
    """Run a part.

    Args:
        part: One of ``gpu_check.PARTS``.
        device: ``'cuda'``, ``'cpu'`` or ``'mock'``.
        tiny: Tiny networks and clips.

    Returns:
        Its figures, for JSON.

    Raises:
        NotHereError: If this machine lacks something.
    """
    init_default_scope('mmaction')
    if device == 'cuda' and not torch.cuda.is_available():
        raise NotHereError('PyTorch sees no GPU.')
    warnings.simplefilter('ignore')
    if device != 'mock':
        return _run(part, torch.device(device), tiny, None)
    with MockGPU() as gpu:
        return _run(part, torch.device(NAME), tiny, gpu)


def _run(
    part: str, device: torch.device, tiny: bool, gpu: MockGPU | None
) -> dict[str, Any]:
    if part.startswith('step-'):
        with on_device(device):
            return take_steps(part.removeprefix('step-'), device, tiny, gpu)
    parts: dict[str, Callable[..., dict[str, Any]]] = {
        'imports': imports,
        'parity': parity,
        'segmentation': segmentation,
        'fine-tuning': fine_tuning,
        'loader-and-trainer': loader_and_trainer,
        'model': model_beside_others,
    }
    return parts[part](device, tiny, gpu)


def imports(
    device: torch.device, tiny: bool, gpu: MockGPU | None
) -> dict[str, Any]:
    """Versions, and what the device is."""
    found: dict[str, Any] = dict(
        torch=torch.__version__, cuda=torch.version.cuda
    )
    if device.type == 'cuda':
        properties = torch.cuda.get_device_properties(device)
        found.update(
            name=properties.name,
            memory_gb=properties.total_memory / 1e9,
            capability='.'.join(map(str, torch.cuda.get_device_capability())),
            bfloat16=torch.cuda.is_bf16_supported(),
        )
    for name in ('kornia', 'transformers', 'onnxruntime', 'mmdet'):
        try:
            __import__(name)
            found[name] = True
        except ImportError as error:
            found[name] = f'no: {error}'
    assert export  # so that all of the tool is imported
    return dict(found, machine=about_machine())


def segmentation(
    device: torch.device, tiny: bool, gpu: MockGPU | None
) -> dict[str, Any]:
    """Masks of a generated sequence beside those of the CPU."""
    frames, side = (3, 64) if tiny else (8, 480)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / 'davis'
        write_generated(root, frames, side)
        setup = Setup(str(root), side, device=str(device))
        sample = setup.dataset(side)[0]
    masks, seconds = [], 0.0
    for where in (torch.device('cpu'), device):
        network = setup.vit_model().to(where)
        batch = dict(
            inputs=[sample['inputs']],
            data_samples=[sample['data_samples'].clone()],
        )
        data = network.data_preprocessor(batch)
        synchronize(where)
        start = time.perf_counter()
        with counting_waits(where, gpu) as waits:
            (labelled,) = network(**data)
        seconds = time.perf_counter() - start
        masks.append(torch.from_numpy(labelled.pred_masks))
    if len(waits) > frames:
        raise AssertionError(f'{len(waits)} waits in {frames} frames.')
    return dict(
        ms_a_frame=1e3 * seconds / frames,
        waits_a_frame=len(waits) / frames,
        equal_pixels=(masks[0] == masks[1]).double().mean().item(),
    )


def _benchmark(tool: Any, *argv: str) -> dict[str, Any]:
    """Figures of a ``tools/benchmark.py``, and its table."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'figures.json'
        tool.benchmark(tool.parse_args([*argv, '--json', str(file)]))
        return json.loads(file.read_text(encoding='utf-8'))


def _device_of(device: torch.device) -> list[str]:
    # The benchmarks know no third device.
    return ['--device', 'cuda' if device.type == 'cuda' else 'cpu']


_DEMO = 'configs/demo/motionmae_vit-tiny-p8_1xb16-16x2x1-40e_videos.py'
_TINY_CLIPS = ['--generate', '2', '--clip-size', '64', '48', '40']
_FEW = ['--warmup', '1', '--num-steps', '4']


def loader_and_trainer(
    device: torch.device, tiny: bool, gpu: MockGPU | None
) -> dict[str, Any]:
    """Loader, model and trainer of pre-training, alone and together."""
    argv = [
        *_FEW,
        *_device_of(device),
        '--clips-per-step',
        '4' if tiny else '64',
    ]
    if tiny:
        argv = [str(ROOT / _DEMO), *argv, *_TINY_CLIPS, '--num-workers', '1']
    return _rates(_benchmark(training, *argv))


def fine_tuning(
    device: torch.device, tiny: bool, gpu: MockGPU | None
) -> dict[str, Any]:
    """Loader, model and trainer of fine-tuning, with its augmentations."""
    config = f'configs/{CONFIGS["fine-tuning"]}.py'
    if tiny:
        config = 'configs/demo/vit-tiny-p8_scratch_1xb8-16x2x1-40e_videos.py'
    argv = [str(ROOT / config), *_FEW, *_device_of(device)]
    clips = _TINY_CLIPS if tiny else ['--generate', '16']
    number = ['--num-workers', '1'] if tiny else []
    size = ['--clips-per-step', '2' if tiny else '8']
    return _rates(_benchmark(training, *argv, *clips, *number, *size))


def _rates(found: dict[str, Any]) -> dict[str, Any]:
    (row,) = found['rows']
    told = {
        name: value
        for name, value in row.items()
        if isinstance(value, (float, int, str))
    }
    return dict(told, rows=found['rows'])


def model_beside_others(
    device: torch.device, tiny: bool, gpu: MockGPU | None
) -> dict[str, Any]:
    """A pre-training step beside the official code and `transformers`."""
    argv = ['--sizes', 'base', '--batch-size', str(CLIPS), '--rounds', '6']
    if tiny:
        argv = ['--sizes', 'small', '--batch-size', '1', '--rounds', '1']
        argv += ['--num-frames', '4', '--img-size', '32', '--no-memory']
    checkout = environ.get('VIDEOMAE_CHECKOUT')
    if checkout:
        argv += ['--videomae-checkout', checkout]
    found = _benchmark(model, *argv, *_device_of(device))
    (steps,) = found['tables']
    middle = {f'{row["name"]}, ms': row['ms'][1] for row in steps['rows']}
    return dict(middle, table=steps)
