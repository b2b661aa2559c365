# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object, barrier
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop, Runner

from ...utils.errors import PREEMPTED, Preemption
from ...utils.run_folder import finish_saving
from ..resuming.agreement import Agreement
from ..resuming.interim import is_between_steps, save_interim
from ..resuming.signals import SignalWatch, WorkerShield
from .timed_checkpoint_hook import timeout_of

NOTE = 'MOTIONMAE_PREEMPTION_NOTE'
"""Environment variable: file that says that the run was asked to end."""


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Write a checkpoint and end when the machine is about to be taken away.

    Slurm, Kubernetes and the providers of spot machines send SIGTERM, or what
    they are told to (``sbatch --signal=USR1@120``), some time ahead. At the
    next step, or the next batch of a validation, all processes write
    ``interim_iter_<N>.pth`` and end with exit code 85; ``--resume`` goes on
    from there bit for bit (with :class:`ResumableEpochLoop` or
    :class:`ResumableIterLoop`). While gradients are accumulated, the next
    step is the end of that. A second signal, some seconds later, ends the
    process at once.

    It costs no wait for the device. One process exchanges nothing with
    others; several learn of the signal one step later.

    Args:
        signals (Sequence[str]): Defaults to ``('SIGTERM', 'SIGUSR1')``.
        exit_code (int): Defaults to 85.
        patience (float): Seconds within which further signals are the same
            request. Defaults to 5.
        clock (Callable[[], float]): Shows seconds.

    Raises:
        Preemption: Not here, but after the checkpoint is written; a
            ``SystemExit``.
    """

    priority = 'LOWEST'  # after CheckpointHook

    def __init__(
        self,
        signals: Sequence[str] = ('SIGTERM', 'SIGUSR1'),
        exit_code: int = PREEMPTED,
        patience: float = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.watch = SignalWatch(signals, patience, clock)
        self.exit_code = exit_code
        self._agreement: Agreement | None = None
        self._shield = WorkerShield()
        self._stopping = False
        self._in_validation = True

    def before_train(self, runner: Runner) -> None:
        """Take the signals over."""
        self._agreement = Agreement(timeout_of(runner))
        for loop in (runner.train_loop, runner.val_loop):
            if isinstance(loop, BaseLoop):
                self._shield.cover(loop.dataloader)
        self.watch.start()

    def after_train(self, runner: Runner) -> None:
        """Give the signals back: all is done."""
        if self._agreement is not None:
            self._agreement.settle()
        self._shield.lift()
        self.watch.stop()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """End after this step, if any process was asked to."""
        if self._is_asked() and is_between_steps(runner):
            self._end(runner, runner.epoch, runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        """Find out whether a validation can be left in between."""
        # Averaged weights are in the model's place until it ends.
        averaged = any(isinstance(h, EMAHook) for h in runner.hooks)
        lengths = all_gather_object(len(runner.val_dataloader))
        self._in_validation = not averaged and len({*lengths}) == 1

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """End in the middle; the validation starts anew when it goes on."""
        if self._in_validation:
            self._end_if_asked(runner)

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """End after a validation."""
        self._end_if_asked(runner)

    def _is_asked(self) -> bool:
        if self._agreement is None:  # not in training
            return False
        self._stopping |= self._agreement.ask(self.watch.received is not None)
        return self._stopping

    def _end_if_asked(self, runner: Runner) -> None:
        if self._is_asked():
            self._end(runner, runner.epoch, runner.iter)

    def _end(self, runner: Runner, epoch: int, iteration: int) -> None:
        if self._agreement is not None:
            self._agreement.settle()
        path = save_interim(runner, epoch, iteration)
        finish_saving(runner)
        barrier()  # nobody ends before the file is complete
        note = os.environ.get(NOTE)
        if note and os.environ.get('LOCAL_RANK', '0') == '0':
            Path(note).write_text(f'{path}\n')
        barrier()  # launchers end the others as soon as one has ended
        self._shield.lift()
        self.watch.stop()
        asked = self.watch.received or 'A signal to another process'
        runner.logger.warning(
            f'{asked} asked this run to end. It is saved in {path}; --resume '
            f'goes on from there. Exit code {self.exit_code}.'
        )
        raise Preemption(self.exit_code)
