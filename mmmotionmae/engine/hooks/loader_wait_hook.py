# Copyright (c) MotionMAE contributors. All rights reserved.
import logging
import os
from typing import Any

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

_WARM_UP = 10  # iterations, while the loader's processes start


@HOOKS.register_module()
class LoaderWaitHook(Hook):
    """Warn once if decoding videos keeps the training waiting.

    It goes by what MMEngine's ``IterTimerHook`` records and the log shows:
    ``data_time``, for which a step waits for its batch, and ``time``, which
    all of it takes. The first ten iterations do not count; nor do those that
    follow a checkpoint, a validation or the start of an epoch, of which
    ``data_time`` holds what these take.

    Args:
        max_share (float): More than this share of the time is too much.
            Defaults to 0.2.
        interval (int): Over how many iterations it is measured, again and
            again, of those that count. Defaults to 100.

    Raises:
        ValueError: If ``max_share`` is not in (0, 1), or ``interval`` below 1.
    """

    priority = 'LOW'  # after the timer

    def __init__(self, max_share: float = 0.2, interval: int = 100) -> None:
        if not 0 < max_share < 1:
            raise ValueError(f'max_share must be in (0, 1), not {max_share}')
        if interval < 1:
            raise ValueError(f'interval must be at least 1, not {interval}')
        self.max_share = max_share
        self.interval = interval
        self._warned = False
        self._begin(-_WARM_UP)
        self._counts, self._interrupted = True, False

    def _begin(self, count: int = 0) -> None:
        self._count, self._wait, self._step = count, 0.0, 0.0

    def before_train(self, runner: Runner) -> None:
        """Count from here."""
        self._begin(-_WARM_UP)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Leave out the next iteration."""
        self._interrupted = True

    def after_val(self, runner: Runner) -> None:
        """Leave out the next iteration."""
        self._interrupted = True

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave out the next iteration."""
        self._interrupted = True

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Find out whether this iteration counts."""
        anew = _starts_anew(runner.train_dataloader, batch_idx)
        self._counts = not (self._interrupted or anew)
        self._interrupted = False

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Look at the last iterations, once there are enough."""
        scalars = runner.message_hub.log_scalars
        names = 'train/data_time', 'train/time'
        if self._warned or not self._counts or not set(names) <= set(scalars):
            return  # the last: without the timer
        self._count += 1
        if self._count <= 0:
            return
        wait, step = (float(scalars[name].current()) for name in names)
        self._wait += wait
        self._step += step
        if self._count < self.interval:
            return
        wait, step = self._wait / self.interval, self._step / self.interval
        self._begin()
        if wait > self.max_share * step:
            self._warned = True
            print_log(
                f'The training waits for videos: {wait:.3g} of the '
                f'{step:.3g} s of a step ({wait / step:.0%}), over '
                f'{self.interval} steps. {_ways_out(runner.train_dataloader)}',
                logger='current',
                level=logging.WARNING,
            )


def _starts_anew(loader: Any, batch_idx: int) -> bool:
    """Tell whether a loader that ends was begun anew for this batch.

    In training by iterations no hook is called then.
    """
    try:
        size = len(loader)
    except TypeError:  # unknown
        return False
    return size > 1 and batch_idx % size == 0


def _ways_out(loader: Any) -> str:
    """Ways to make loading faster, the best first."""
    workers = getattr(loader, 'num_workers', 0)
    cores = len(os.sched_getaffinity(0))
    repeats = getattr(loader.dataset, 'num_repeats', None)
    ways = ['write smaller copies of them once (tools/data/resize_videos.py)']
    if repeats is not None:
        ways.append(f'make more clips of each (num_repeats, now {repeats})')
    ways.append(
        f'raise num_workers (now {workers}; the processes of this machine '
        f'may use {cores} cores)'
    )
    if workers and not getattr(loader, 'persistent_workers', True):
        ways.append(
            'keep these processes between epochs (persistent_workers=True)'
        )
    text = ', or '.join(ways)
    return f'{text[0].upper()}{text[1:]}.'
