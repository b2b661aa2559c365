# Copyright (c) MotionMAE contributors. All rights reserved.
"""Checkpoints between the regular ones."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from ...utils.files import by_number, remove
from ...utils.run_folder import (
    last_checkpoint,
    note_last_checkpoint,
    when_saved,
)
from .schedules import wrappers_of

NAME = 'interim_iter_{}.pth'
KEPT = 2


def save_interim(runner: Runner, epoch: int, iteration: int) -> Path:
    """Write a checkpoint that a run can go on from, bit for bit.

    The work dir keeps the last two of these until the run ends. All processes
    call this.

    Args:
        runner: The runner.
        epoch: How many are done.
        iteration: How many batches are done.

    Returns:
        The file, or folder; a strategy may still be writing it.
    """
    runner.call_hook('before_interim_checkpoint')
    work_dir, name = Path(runner.work_dir), NAME.format(iteration)
    runner.save_checkpoint(
        runner.work_dir,
        name,
        save_optimizer=True,
        save_param_scheduler=runner.param_schedulers is not None,
        meta=dict(epoch=epoch, iter=iteration),
        by_epoch=False,
    )

    def note() -> None:
        note_last_checkpoint(work_dir, str(work_dir / name))
        others = [
            path for path in _interim_files(work_dir) if path.name != name
        ]
        for path in others[: 1 - KEPT]:
            remove(path)

    if is_main_process():
        when_saved(runner, note)
    return work_dir / name


def remove_interim(runner: Runner) -> None:
    """Remove these checkpoints at the end of a run, if it has a later one."""
    work_dir = Path(runner.work_dir)
    if not is_main_process():
        return
    last, files = last_checkpoint(work_dir), _interim_files(work_dir)
    if last is not None and Path(last).name in {path.name for path in files}:
        # A run that was asked to end after its last step has both.
        names = (f'epoch_{runner.epoch}.pth', f'iter_{runner.iter}.pth')
        regular = [name for name in names if (work_dir / name).exists()]
        last = str(work_dir / regular[0]) if regular else None
        if last is not None:
            note_last_checkpoint(work_dir, last)
    if last is None:
        return
    for path in files:
        remove(path)


def _interim_files(work_dir: Path) -> list[Path]:
    """These checkpoints, of the earliest iteration first.

    As they are in the folder: a run that was killed may not know of its last.
    """
    return sorted(
        work_dir.glob(NAME.format('*')), key=lambda path: by_number(path.name)
    )


def is_between_steps(runner: Runner) -> bool:
    """Tell whether no gradients of earlier batches are pending."""
    return all(
        not hasattr(wrapper, 'should_update') or wrapper.should_update()
        for wrapper in wrappers_of(runner).values()
    )
