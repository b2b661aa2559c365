# Copyright (c) MotionMAE contributors. All rights reserved.
"""Patches of how MMEngine finds the last checkpoint of a work dir."""

from functools import wraps
from pathlib import Path
from typing import Any

from ..utils.errors import CheckpointError
from ..utils.patching import once, replace, warn
from ..utils.run_folder import choose_checkpoint, note_last_checkpoint


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

    It also writes it in place. See :func:`note_last_checkpoint`.

    Remove when: ``last_checkpoint`` holds a name.
    """
    from mmengine.dist import is_main_process
    from mmengine.hooks.checkpoint_hook import CheckpointHook

    save = CheckpointHook._save_checkpoint_with_step

    @wraps(save)
    def save_and_note(
        self: CheckpointHook, runner: Any, step: int, meta: dict
    ) -> None:
        save(self, runner, step, meta)
        if is_main_process():
            note_last_checkpoint(Path(runner.work_dir), str(self.last_ckpt))

    CheckpointHook._save_checkpoint_with_step = save_and_note
