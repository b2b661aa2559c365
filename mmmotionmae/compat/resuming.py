# Copyright (c) MotionMAE contributors. All rights reserved.
"""Patches of how MMEngine finds the last checkpoint of a work dir."""

from functools import wraps
from pathlib import Path
from typing import Any

from ..utils.errors import CheckpointError
from ..utils.patching import once, replace, warn
from ..utils.run_folder import (
    LAST,
    choose_checkpoint,
    finish_saving,
    note_last_checkpoint,
    when_saved,
)


@once
def find_checkpoints_of_the_work_dir() -> None:
    """``--resume`` goes on from what a file says, be it another run's.

    MMEngine stores the path of the last checkpoint. In a folder that was
    copied or moved, it is that of another run, or of nothing; one that is
    truncated, or that the file does not name, ends the run. See
    :func:`choose_checkpoint`. The main process chooses for all.

    Remove when: MMEngine looks into the work dir itself.

    Raises:
        CheckpointError: Not here, but where a run is resumed whose work dir
            has checkpoints, and none to go on from.
    """
    from mmengine.dist import broadcast_object_list, is_main_process
    from mmengine.runner import checkpoint

    @wraps(checkpoint.find_latest_checkpoint)
    def find_latest_checkpoint(path: str) -> str | None:
        found: list[Any] = [None, [], None]
        if is_main_process():
            try:
                found[:2] = choose_checkpoint(Path(path))
            except CheckpointError as error:
                found[2] = str(error)
        broadcast_object_list(found)
        chosen, passed_over, problem = found
        if problem is not None:
            raise CheckpointError(problem)
        for reason in passed_over:
            warn(f'{reason}: going on from {chosen} instead.')
        return chosen

    owners = ('', '.checkpoint', '.runner', '._flexible_runner')
    replace(
        find_latest_checkpoint.__name__,
        find_latest_checkpoint,
        [f'mmengine.runner{owner}' for owner in owners],
    )


@once
def note_names_of_checkpoints() -> None:
    """``CheckpointHook`` writes a path that does not move along.

    It also writes it in place, and before a strategy that writes while
    training goes on is done. See :func:`note_last_checkpoint`. Nor does it
    wait for a checkpoint that is being written before it removes another.

    Remove when: ``last_checkpoint`` holds a name, of what is complete.
    """
    from mmengine.dist import is_main_process
    from mmengine.hooks.checkpoint_hook import CheckpointHook

    save = CheckpointHook._save_checkpoint_with_step
    save_best = CheckpointHook._save_best_checkpoint

    @wraps(save)
    def save_and_note(
        self: CheckpointHook, runner: Any, step: int, meta: dict
    ) -> None:
        finish_saving(runner)
        work_dir = Path(runner.work_dir)
        noted = work_dir / LAST
        before = noted.read_text() if noted.is_file() else None
        save(self, runner, step, meta)
        if is_main_process():
            name = str(self.last_ckpt)
            if before is None:
                noted.unlink(missing_ok=True)
            else:
                note_last_checkpoint(work_dir, before)
            when_saved(runner, lambda: note_last_checkpoint(work_dir, name))

    @wraps(save_best)
    def finish_and_save_best(
        self: CheckpointHook, runner: Any, metrics: dict
    ) -> None:
        finish_saving(runner)
        save_best(self, runner, metrics)

    CheckpointHook._save_best_checkpoint = finish_and_save_best
    CheckpointHook._save_checkpoint_with_step = save_and_note


class _Position(dict):
    """Keeps what it has when more is written into it."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(dict(*args, **kwargs) | self)


@once
def keep_given_positions() -> None:
    """``FlexibleRunner`` overwrites the position that it is told to save.

    A checkpoint that is saved once more after the validation, because of a
    new best one, says that one more epoch is done, and a resumed run leaves
    that out; one of a run that is asked to end in a validation, one more
    iteration. ``Runner`` keeps what ``CheckpointHook`` says.

    Remove when: ``FlexibleRunner.save_checkpoint`` does not call
    ``meta.update`` with epoch and iteration.
    """
    from mmengine.runner import FlexibleRunner

    save = FlexibleRunner.save_checkpoint

    @wraps(save)
    def save_checkpoint(
        self: FlexibleRunner, *args: Any, meta: Any = None, **kwargs: Any
    ) -> None:
        if isinstance(meta, dict):
            meta = _Position(meta)
        save(self, *args, meta=meta, **kwargs)

    FlexibleRunner.save_checkpoint = save_checkpoint


@once
def resume_from_what_there_is() -> None:
    """``FlexibleRunner`` ends with a ``KeyError`` where ``Runner`` goes on.

    A checkpoint may have no state of the optimiser (``save_optimizer=False``,
    best checkpoints) or of schedules; what it lacks begins afresh.

    Remove when: ``SingleDeviceStrategy.resume`` asks for what there is.
    """
    from mmengine._strategy.single_device import SingleDeviceStrategy

    resume = SingleDeviceStrategy.resume

    @wraps(resume)
    def resume_parts(
        self: SingleDeviceStrategy,
        filename: str,
        *,
        callback: Any = None,
        **kwargs: Any,
    ) -> dict:
        wanted = dict(
            optimizer=kwargs.get('resume_optimizer', True),
            param_schedulers=kwargs.get('resume_param_scheduler', True)
            and hasattr(self, 'param_schedulers'),
        )

        def fill(checkpoint: dict) -> None:
            if callback is not None:
                callback(checkpoint)
            if wanted['optimizer'] and 'optimizer' not in checkpoint:
                checkpoint['optimizer'] = self.optim_state_dict()
            if (
                wanted['param_schedulers']
                and 'param_schedulers' not in checkpoint
            ):
                checkpoint['param_schedulers'] = self.scheduler_state_dict()

        return resume(self, filename, callback=fill, **kwargs)

    SingleDeviceStrategy.resume = resume_parts
