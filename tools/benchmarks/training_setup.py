# Copyright (c) MotionMAE contributors. All rights reserved.
"""The config of a run that is measured, and the videos that it reads."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmengine.device.utils
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from mmmotionmae.apis import UsageError
from mmmotionmae.apis import runner as runs
from mmmotionmae.cli.train_options import (
    check_train_data,
    set_amp,
    switch_off_validation,
)
from mmmotionmae.datasets import wrappers

from .clips import Source, extract_frames, generate


@dataclass(frozen=True)
class Setting:
    """One way to feed the model.

    Attributes:
        repeats: R, the clips made of a video once it is decoded.
        num_workers: Processes of the loader; 0: the training process loads.
    """

    repeats: int
    num_workers: int


def data_set_of(cfg: Config) -> ConfigDict:
    """The config of the training set, within MMEngine's wrappers.

    Raises:
        UsageError: If there is none, or several in one.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    parts = list(wrappers.single_datasets(dataset or {}))
    if not dataset or len(parts) != 1:
        raise UsageError(
            'The config needs a train_dataloader with one data set.'
        )
    return parts[0]


def clips_per_video(cfg: Config) -> int:
    """R of the config."""
    return wrappers.clips_per_video(data_set_of(cfg))


def set_mixed_precision(cfg: Config, amp: str | None) -> None:
    """Change the precision.

    Args:
        cfg: Changed in place.
        amp: ``'bf16'``, ``'fp16'``, ``'off'``, or None: as it is.

    Raises:
        UsageError: See :func:`set_amp`.
    """
    if amp == 'off':
        cfg.optim_wrapper.type = 'OptimWrapper'
        for key in ('dtype', 'loss_scale', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)
    elif amp:
        set_amp(cfg, amp)


def without_side_effects(cfg: Config, work_dir: Path) -> None:
    """Leave out what has no part in the speed of a training step.

    No checkpoint is read, nothing is evaluated, and the log shows warnings
    only (the hooks that write it run as ever).

    Args:
        cfg: Changed in place.
        work_dir: Where files go.
    """
    cfg.launcher = 'none'
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'WARNING'
    cfg.load_from = None
    cfg.resume = False
    switch_off_validation(cfg)
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    _drop_pretrained(cfg.get('model'))


def _drop_pretrained(part: Any) -> None:
    if isinstance(part, dict):
        init = part.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == 'Pretrained':
            part['init_cfg'] = None
        for value in part.values():
            _drop_pretrained(value)


def write_generated(
    cfg: Config, folder: Path, number: int, size: tuple[int, int, int]
) -> Source:
    """Write clips of the kind that the config reads: videos or raw frames.

    Args:
        cfg: Of the run.
        folder: New or empty.
        number: How many.
        size: Width and height in pixels, and frames.
    """
    width, height, num_frames = size
    videos = generate(
        folder / 'videos',
        number,
        width=width,
        height=height,
        num_frames=num_frames,
    )
    if 'img' in data_set_of(cfg).get('data_prefix', {}):
        return extract_frames(videos, folder / 'frames')
    return videos


def read_generated(cfg: Config, source: Source, num_samples: int) -> None:
    """Point the training set of a config to generated clips.

    Args:
        cfg: Changed in place.
        source: The clips.
        num_samples: Videos in an epoch, so that none ends while it is timed;
            the list names each clip as often as that takes.
    """
    lines = Path(source.ann_file).read_text(encoding='utf-8').splitlines()
    times = -(-num_samples // len(lines))
    file = source.folder / f'list_{num_samples}.txt'
    file.write_text('\n'.join(lines * times) + '\n', encoding='utf-8')
    dataset = data_set_of(cfg)
    dataset.ann_file = str(file)
    prefix = 'img' if source.raw_frames else 'video'
    dataset.data_prefix = {prefix: str(source.folder)}


def apply_setting(cfg: Config, setting: Setting, clips_per_step: int) -> None:
    """Set workers, repeats and batch size.

    Args:
        cfg: Changed in place.
        setting: Workers and repeats.
        clips_per_step: Clips in a batch; a multiple of R.

    Raises:
        UsageError: If that does not go together, or the data set knows no
            repeats.
    """
    dataset, loader = data_set_of(cfg), cfg.train_dataloader
    repeats = setting.repeats
    if clips_per_step % repeats:
        raise UsageError(
            f'A step of {clips_per_step} clips cannot have {repeats} clips of '
            'each video: choose another --clips-per-step.'
        )
    if repeats != wrappers.clips_per_video(dataset):
        if dataset.get('type') != 'RobustVideoDataset':
            raise UsageError('--repeats needs a RobustVideoDataset.')
        dataset.num_repeats = repeats
        prefix = 'repeat_' if repeats > 1 else ''
        loader.collate_fn = dict(type=f'{prefix}pseudo_collate')
    loader.batch_size = clips_per_step // repeats
    loader.num_workers = setting.num_workers
    if not setting.num_workers:
        loader.persistent_workers = False
        loader.pop('prefetch_factor', None)


@contextmanager
def on_device(device: torch.device) -> Iterator[None]:
    """Make MMEngine, which takes the GPU if there is one, use a device."""
    before = mmengine.device.utils.DEVICE
    mmengine.device.utils.DEVICE = device.type
    try:
        yield
    finally:
        mmengine.device.utils.DEVICE = before


def build_runner(cfg: Config) -> Runner:
    """Build a runner with its training loop and data.

    Raises:
        UsageError: If there is nothing to train on, or not one batch.
    """
    # Runners of one name would share a log.
    cfg.experiment_name = f'benchmark_{uuid.uuid4().hex}'
    runner = runs.build_runner(cfg)
    check_train_data(runner)
    return runner
