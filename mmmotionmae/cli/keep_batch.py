# Copyright (c) MotionMAE contributors. All rights reserved.
"""The batch of a config on another number of processes."""

import os

from mmengine.config import Config

from ..apis.batches import batch_factors, share_batch
from ..utils.errors import UsageError

# Where launchers say how many processes there are, as MMEngine reads it.
_WORLD_SIZE = dict(
    pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE'
)


def world_size_of(launcher: str) -> int:
    """Number of processes, before they know of each other."""
    name = _WORLD_SIZE.get(launcher)
    return int(os.environ.get(name, 1)) if name else 1


def keep_batch(cfg: Config, world_size: int) -> str:
    """Hold the batch that a config is meant for, whatever the processes.

    Each process loads its share of ``auto_scale_lr.base_batch_size`` clips
    and computes it in parts no larger than ``train_dataloader.batch_size``.
    An iteration stays one step of the optimiser, so that epochs, schedules
    and positions in the data are those of any other number of processes.

    Args:
        cfg: Changed in place.
        world_size: Number of processes.

    Returns:
        A line for the log: how, or what has changed.

    Raises:
        UsageError: If the config does not say for which batch it is meant, or
            there are fewer videos in that than processes, or its loop or
            sampler is not ours.
    """
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not base:
        raise UsageError(
            '--keep-batch needs the batch that the config is meant for: add '
            'auto_scale_lr=dict(base_batch_size=...) to it.'
        )
    loop, loader = cfg.train_cfg, cfg.train_dataloader
    kinds = loop.get('type'), (loader.get('sampler') or {}).get('type')
    if (
        kinds[0] not in ('ResumableEpochLoop', 'ResumableIterLoop')
        or kinds[1] != 'SeededSampler'
    ):
        raise UsageError(
            '--keep-batch needs train_cfg.type=ResumableEpochLoop and '
            'train_dataloader.sampler.type=SeededSampler; the config has '
            f'{kinds[0]} and {kinds[1]}.'
        )
    largest, repeats, _ = batch_factors(cfg)
    videos, rest = divmod(base, repeats)
    if rest or videos < world_size:
        raise UsageError(
            f'--keep-batch: a batch of {base} clips, {repeats} of each '
            f'video, cannot be shared out among {world_size} processes.'
        )
    share = share_batch(videos, world_size, largest)
    loader.batch_size = share.videos
    loader.sampler.samples_of_step = share.videos * world_size
    loop.micro_batches = cfg.optim_wrapper.accumulative_counts = share.parts
    clips = share.videos * world_size * repeats
    how = (
        f'{share.videos} videos on each of {world_size} processes, in '
        f'{share.parts} parts'
    )
    if clips == base:
        return f'The batch of the config, {base} clips, is kept: {how}.'
    length = loop.get('max_epochs')
    unit, length = ('epochs', length) if length else ('steps', loop.max_iters)
    lr = (cfg.optim_wrapper.get('optimizer') or {}).get('lr')
    advice = (
        ''
        if lr is None
        else (
            f', the learning rate stays {lr:.4g} (in proportion: '
            f'{lr * clips / base:.4g}, --auto-scale-lr)'
        )
    )
    return (
        f'The batch of the config, {base} clips, cannot be shared out evenly: '
        f'it is {clips} now ({how}){advice}; still {length} {unit}, '
        f'each epoch of {base / clips:.4g} times as many steps.'
    )
