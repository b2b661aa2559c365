# Copyright (c) MotionMAE contributors. All rights reserved.
import time
from collections.abc import Callable
from typing import Any

from mmaction.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..resuming.agreement import Agreement
from ..resuming.interim import is_between_steps, save_interim


@HOOKS.register_module()
class TimedCheckpointHook(Hook):
    """Write a checkpoint if the last one is so many minutes old.

    Beside those of ``CheckpointHook``, whichever they are: a run whose epochs
    take hours loses minutes. ``interim_iter_<N>.pth`` in the work dir; the
    last two are kept, none once the run has ended. The clock is that of the
    main process. ``--resume`` goes on from them bit for bit, with
    :class:`ResumableEpochLoop` or :class:`ResumableIterLoop`.

    Args:
        minutes (float): Defaults to 30.
        interval (int): Look at the clock after every so many batches.
            Defaults to 10.
        clock (Callable[[], float]): Shows seconds. Defaults to the time that
            no change of the clock can turn back.
    """

    priority = 'LOWEST'  # after CheckpointHook

    def __init__(
        self,
        minutes: float = 30,
        interval: int = 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = 60 * minutes
        self.interval = interval
        self.clock = clock
        self._due = False

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._agreement = Agreement(timeout_of(runner))
        self._last = self.clock()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Start it again at every checkpoint."""
        self._last = self.clock()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Write a checkpoint if one is due."""
        if (runner.iter + 1) % self.interval == 0:
            late = self.clock() - self._last >= self.seconds
            self._due |= self._agreement.ask(is_main_process() and late)
        if self._due and is_between_steps(runner):
            self._due = False
            path = save_interim(runner, runner.epoch, runner.iter + 1)
            runner.logger.info(f'Saved {path}')

    def after_train(self, runner: Runner) -> None:
        """Leave nothing on its way."""
        self._agreement.settle()


def timeout_of(runner: Runner) -> float | None:
    """Seconds that processes wait for each other, as in the config."""
    env: dict[str, Any] = runner.cfg.get('env_cfg') or {}
    return (env.get('dist_cfg') or {}).get('timeout')
