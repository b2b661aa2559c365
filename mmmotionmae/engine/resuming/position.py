# Copyright (c) MotionMAE contributors. All rights reserved.
"""Position of a run in its data, on any number of processes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mmengine.runner import Runner

VALIDATED = 'iter_of_validation'
"""In the message hub: the iteration after which the last validation was."""


class Pace(NamedTuple):
    """Batches of an epoch and videos of a batch.

    Attributes:
        batches: Of an epoch, on each process.
        videos: Of a batch, of all processes together; 0 if not known.
    """

    batches: int
    videos: int

    @classmethod
    def of(cls, runner: Runner) -> 'Pace':
        """That of a runner whose training loop is built."""
        loader = runner.train_dataloader
        size = getattr(loader.batch_sampler, 'batch_size', None) or 1
        return cls(len(loader), size * runner.world_size)

    @classmethod
    def of_checkpoint(cls, meta: Mapping[str, Any]) -> 'Pace | None':
        """The one that a checkpoint was written at, if that is known.

        Args:
            meta: Of the checkpoint; ``pace`` in it is what
                :class:`ResumeHook` wrote. Without it, the end of an epoch
                tells the number of batches.
        """
        if 'pace' in meta:
            return cls(*meta['pace'])
        epoch, iteration = meta['epoch'], meta['iter']
        if not epoch or iteration % epoch:
            return None
        return cls(iteration // epoch, 0)


def move(epoch: int, iteration: int, before: Pace, now: Pace) -> int:
    """Find the iteration at which as many videos of the epoch are done.

    Args:
        epoch: How many are done.
        iteration: How many batches were done, at the old pace.
        before: The old pace.
        now: The new one.

    Returns:
        How many are done at the new pace. In mid-epoch a part of a batch may
        be done twice.
    """
    done = iteration - epoch * before.batches
    if done >= before.batches:
        return (epoch + 1) * now.batches
    if before.videos and now.videos:
        done = done * before.videos // now.videos
    else:
        done = done * now.batches // before.batches
    return epoch * now.batches + min(done, now.batches)


def start_of_accumulation(done: int, total: int, counts: int) -> int:
    """The last batch before which no gradients were pending.

    Args:
        done: Batches, of an epoch or of all.
        total: After these the optimiser steps in any case.
        counts: Batches of a step.

    Returns:
        At most ``done``; equal to it between two steps.
    """
    return done if done == total else done - done % counts
