# Copyright (c) MotionMAE contributors. All rights reserved.
"""Steps of each family of configs: what they cost, wait for and compute."""

import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from benchmarks.common import ROOT, milliseconds, now, synchronize
from benchmarks.training_setup import (
    set_mixed_precision,
    without_side_effects,
)
from mmaction.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mock_device import MockGPU
from torch import Tensor

from mmmotionmae.apis import load_config
from mmmotionmae.apis.cost import describe
from mmmotionmae.datasets.wrappers import clips_per_video
from mmmotionmae.engine.hooks.compile_blocks_hook import (
    configure_dynamo,
    find_blocks,
)

_SSV2 = 'motionmae/motionmae_vit-base-p16{}_32xb64-16x2x1-amp-400e_sthv2-rgb'
_PROBE = 'probing/vit-base-p16_motionmae-k400-pre_{}_kinetics400-rgb'
CONFIGS = {
    'both-targets': _SSV2.format(''),
    'independent': _SSV2.format('-independent'),
    'flow': _SSV2.format('-flow'),
    'hog': _SSV2.format('-hog'),
    'videomae': 'videomae/videomae_vit-base-p16_32xb64-16x2x1-amp-800e_sthv2'
    '-rgb',
    'fine-tuning': 'recognition/vit-base-p16_motionmae-k400-pre_64xb8-16x4x1'
    '-amp-100e_kinetics400-rgb',
    'linear-probe': _PROBE.format('linear-probe-64xb16-16x4x1-amp-100e'),
    'attentive-probe': _PROBE.format('attentive-probe-64xb4-16x4x1-amp-20e'),
}
CLIPS = 16  # of a step
STEPS = 3  # that are timed
# What the CPU's float32 and the GPU's may differ by: rounding.
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3


def read_config(family: str, tiny: bool, folder: str) -> Config:
    """The config of a family, at full size or tiny, from random weights."""
    cfg = load_config(str(ROOT / 'configs' / f'{CONFIGS[family]}.py'))
    without_side_effects(cfg, Path(folder))
    if tiny:
        size = dict(embed_dims=32, depth=2, num_heads=2, img_size=32)
        frozen = cfg.model.backbone.get('frozen_stages')
        if frozen is not None and frozen > 0:
            size['frozen_stages'] = 2
        cfg.model.backbone.update(size)
        if 'neck' in cfg.model:
            cfg.model.neck.update(embed_dims=16, depth=1, num_heads=2)
        if 'cls_head' in cfg.model:
            cfg.model.cls_head.in_channels = 32
            if 'num_heads' in cfg.model.cls_head:
                cfg.model.cls_head.num_heads = 2
        layers: Any = cfg.optim_wrapper.get('paramwise_cfg') or {}
        if 'num_layers' in layers:
            layers.num_layers = 2
    return cfg


def make_samples(
    cfg: Config, videos: int, clips: int, classes: int = 5
) -> list[dict[str, Any]]:
    """Noise, as the end of a config's pipeline packs it.

    Args:
        cfg: Its masks, targets and fields are those of a training.
        videos: Samples.
        clips: Of each.
        classes: Of the labels.
    """
    names = [transform['type'] for transform in cfg.train_pipeline]
    last = cfg.train_pipeline[names.index('FormatClip') + 1 :]
    pipeline = Compose([TRANSFORMS.build(transform) for transform in last])
    backbone = cfg.model.backbone
    side, length = backbone.img_size, backbone.num_frames
    return [
        pipeline(
            dict(
                imgs=torch.randint(
                    256, (clips, 3, length, side, side), dtype=torch.uint8
                ),
                label=i % classes,
                num_clips=clips,
                clip_len=length,
            )
        )
        for i in range(videos)
    ]


def collate(
    samples: Sequence[dict[str, Any]], pinned: bool
) -> dict[str, list]:
    """A batch; clips in pinned memory as of a loader, data samples not."""
    clips = [sample['inputs'] for sample in samples]
    return dict(
        inputs=[clip.pin_memory() for clip in clips] if pinned else clips,
        data_samples=[sample['data_samples'] for sample in samples],
    )


@contextmanager
def counting_waits(
    device: torch.device, gpu: MockGPU | None
) -> Iterator[list[Any]]:
    """Collect what makes the host wait; on a CPU nothing does."""
    if gpu is not None:
        with gpu.recording() as recorded:
            yield recorded
        return
    if device.type != 'cuda':
        yield []
        return
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        waits: list[Any] = []
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode('default')
            waits += [
                f'{warning.filename}:{warning.lineno}'
                for warning in found
                if 'synchroniz' in str(warning.message)
            ]


def take_steps(
    family: str, device: torch.device, tiny: bool, gpu: MockGPU | None
) -> dict[str, Any]:
    """Steps of training as a config has them, plain and compiled."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cfg = read_config(family, tiny, folder)
        # MMEngine's autocast knows no third device.
        set_mixed_precision(cfg, 'off' if gpu is not None else 'bf16')
        repeats = clips_per_video(cfg.train_dataloader.dataset)
        videos = max(1, (4 if tiny else CLIPS) // repeats)
        cfg.train_dataloader.batch_size = videos
        cfg.optim_wrapper.pop('accumulative_counts', None)
        # Fetched by MMEngine, but kept on the device by a hook in training.
        cfg.optim_wrapper.pop('clip_grad', None)
        batch = collate(
            make_samples(cfg, videos, repeats), pinned=device.type != 'cpu'
        )
        estimate = describe(cfg, gpus=1)['memory']['total']
        found.update(clips=videos * repeats, estimated_gb=estimate / 1e9)
        for compiled in (False, True):
            prefix = 'compiled_' if compiled else ''
            if compiled and device.type != 'cuda':
                continue
            figures = _train(cfg, batch, device, gpu, compiled)
            found.update({f'{prefix}{k}': v for k, v in figures.items()})
    if found.get('waits'):
        raise AssertionError(f'{found["waits"]} waits: {found["places"]}')
    return found


def _train(
    cfg: Config,
    batch: dict[str, list],
    device: torch.device,
    gpu: MockGPU | None,
    compiled: bool,
) -> dict[str, Any]:
    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    network.init_weights()
    network = network.to(device).train()
    if compiled:
        blocks = find_blocks(network, ('blocks',))
        configure_dynamo(len(blocks))
        for block in blocks:
            block.compile(fullgraph=True, dynamic=False)
    wrapper = build_optim_wrapper(network, cfg.optim_wrapper)
    start = time.perf_counter()
    network.train_step(dict(batch), wrapper)  # makes the optimiser's state
    synchronize(device)
    first = time.perf_counter() - start
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    points = [now(device)]
    with counting_waits(device, gpu) as waits:
        for _ in range(STEPS):
            log = network.train_step(dict(batch), wrapper)
            points.append(now(device))
    synchronize(device)
    loss = float(log['loss'])
    if not torch.isfinite(torch.tensor(loss)):
        raise AssertionError(f'The loss is {loss}.')
    times = [
        milliseconds(*pair) for pair in zip(points, points[1:], strict=False)
    ]
    found = dict(
        loss=loss,
        first_step_s=first,
        step_ms=sorted(times)[len(times) // 2],
        waits=len(waits),
        places=[str(wait) for wait in waits[:10]],
    )
    if device.type == 'cuda':
        found['memory_gb'] = torch.cuda.max_memory_allocated() / 1e9
    return found


def parity(
    device: torch.device, tiny: bool, gpu: MockGPU | None
) -> dict[str, Any]:
    """Losses and gradients in float32 beside those of the CPU."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    found: dict[str, Any] = {}
    for family in ('both-targets', 'independent', 'hog', 'linear-probe'):
        with tempfile.TemporaryDirectory() as folder:
            cfg = read_config(family, tiny, folder)
        torch.manual_seed(0)
        samples = make_samples(cfg, 2, 1)
        outcomes = []
        for where in (torch.device('cpu'), device):
            torch.manual_seed(0)
            network = MODELS.build(cfg.model)
            network.init_weights()
            network = network.to(where).train()
            data = network.data_preprocessor(collate(samples, False), True)
            loss, _ = network.parse_losses(network(**data, mode='loss'))
            loss.backward()
            outcomes.append((loss.item(), _gradients(network)))
        (expected, ours), (loss, theirs) = outcomes
        error = abs(loss / expected - 1)
        gradient = max(
            ((theirs[n] - g).abs().max() / g.abs().max().clamp(1e-6)).item()
            for n, g in ours.items()
        )
        found[f'{family}_loss'] = error
        found[f'{family}_gradient'] = gradient
        if error > LOSS_TOLERANCE or gradient > GRADIENT_TOLERANCE:
            raise AssertionError(
                f'{family}: the loss differs by {error:.1e}, gradients by '
                f'{gradient:.1e} of the largest.'
            )
    return found


def _gradients(network: Any) -> dict[str, Tensor]:
    return {
        name: parameter.grad.cpu()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
