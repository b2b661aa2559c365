# Copyright (c) MotionMAE contributors. All rights reserved.
"""The batch of a config, and what each process computes of it."""

import math
from typing import NamedTuple

from mmengine.config import Config

from ..datasets.wrappers import clips_per_video


def clips_per_rank_and_step(cfg: Config) -> int:
    """Clips that one process contributes to one step of the optimiser.

    Batch size x clips drawn of each video x accumulated batches.
    """
    return math.prod(batch_factors(cfg))


def batch_factors(cfg: Config) -> tuple[int, int, int]:
    """Batch size, clips drawn of each video, accumulated batches.

    Raises:
        UsageError: See :func:`clips_per_video`.
    """
    loader = cfg.train_dataloader
    # These count parts of a batch, if it is computed in parts.
    parts = (cfg.get('train_cfg') or {}).get('micro_batches', 1)
    return (
        loader.batch_size,
        clips_per_video(loader.dataset),
        cfg.optim_wrapper.get('accumulative_counts', 1) // parts,
    )


def describe_batch(cfg: Config, world_size: int) -> str:
    """The effective batch size and the learning rate, for the log.

    Without the latter for a run that is resumed: :class:`ResumeHook` logs
    what the optimiser has.
    """
    batch_size, repeats, accumulated = batch_factors(cfg)
    clips = world_size * batch_size * repeats * accumulated
    text = (
        f'Effective batch size: {clips} clips a step = {world_size} processes '
        f'x {batch_size} videos x {repeats} clips of each x {accumulated} '
        'accumulated batches.'
    )
    lr = cfg.optim_wrapper.get('optimizer', {}).get('lr')
    if lr is None or cfg.get('resume'):
        return text
    scaling = cfg.get('auto_scale_lr') or {}
    if not scaling.get('enable'):
        text = f'{text} Learning rate: {lr:.4g}, as in the config.'
        base = scaling.get('base_batch_size', clips)
        if clips == base or 'micro_batches' in (cfg.get('train_cfg') or {}):
            return text
        return (
            f'{text} The config is meant for {base} clips a step: '
            '--keep-batch holds that, --auto-scale-lr scales the rate.'
        )
    # As MMEngine's `Runner.scale_lr` does it.
    lr *= world_size * batch_size / scaling['base_batch_size']
    return f'{text} Learning rate: {lr:.4g}, scaled to the batch size.'


class Share(NamedTuple):
    """Part of a step that each process computes.

    Attributes:
        videos: Of its batch.
        parts: In so many, of the same size, the batch is computed.
    """

    videos: int
    parts: int


def share_batch(videos: int, world_size: int, largest: int) -> Share:
    """Share a batch out among processes.

    Args:
        videos: Of the batch, at least one for each process.
        world_size: Number of processes.
        largest: Videos that a process can compute at once.

    Returns:
        The largest parts that are even on all processes. Where none are,
        those of the eight smallest numbers of parts with which all processes
        together come closest to the batch.
    """
    share, rest = divmod(videos, world_size)
    if not rest:
        size = next(n for n in range(largest, 0, -1) if share % n == 0)
        return Share(share, share // size)
    exact = videos / world_size
    fewest = -(-share // largest)
    choices = [
        (min(max(round(exact / parts), 1), largest), parts)
        for parts in range(fewest, fewest + 8)
    ]
    size, parts = min(choices, key=lambda c: abs(c[0] * c[1] - exact))
    return Share(size * parts, parts)
