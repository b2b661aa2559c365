# Copyright (c) MotionMAE contributors. All rights reserved.
"""Checkpoints between the regular ones."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ...utils.run_folder import last_checkpoint, note_last_checkpoint
from .schedules import wrappers_of

NAME = 'interim_iter_{}.pth'
KEPT = 2
_INFO = 'interim_checkpoints'  # in the message hub, and so in checkpoints


def save_interim(runner: Runner, epoch: int, iteration: int) -> Path:
    """Write a checkpoint that a run can go on from, bit for bit.

    The work dir keeps the last two of these until the run ends. All processes
    call this.

    Args:
        runner: The runner.
        epoch: How many are done.
        iteration: How many batches are done.

    Returns:
        The file.
    """
    runner.call_hook('before_interim_checkpoint')
    work_dir = Path(runner.work_dir)
    hub, name = runner.message_hub, NAME.format(iteration)
    earlier = [n for n in hub.get_info(_INFO, []) if n != name]
    hub.update_info(_INFO, [*earlier[1 - KEPT :], name])
    runner.save_checkpoint(
        runner.work_dir,
        name,
        save_optimizer=True,
        save_param_scheduler=runner.param_schedulers is not None,
        meta=dict(epoch=epoch, iter=iteration),
        by_epoch=False,
    )
    if is_main_process():
        note_last_checkpoint(work_dir, str(work_dir / name))
        for old in earlier[: 1 - KEPT]:
            (work_dir / old).unlink(missing_ok=True)
    return work_dir / name


def remove_interim(runner: Runner) -> None:
    """Remove these checkpoints at the end of a run, if it has a later one."""
    work_dir, names = Path(runner.work_dir), runner.message_hub.get_info(_INFO)
    if not names or not is_main_process():
        return
    last = last_checkpoint(work_dir)
    if last is None or Path(last).name in names:
        return
    for name in names:
        (work_dir / name).unlink(missing_ok=True)
    runner.message_hub.update_info(_INFO, [])


def is_between_steps(runner: Runner) -> bool:
    """Tell whether no gradients of earlier batches are pending."""
    return all(
        not isinstance(wrapper, OptimWrapper) or wrapper.should_update()
        for wrapper in wrappers_of(runner).values()
    )
