# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...datasets.wrappers import single_datasets
from ...utils.files import complete_file

FILENAME = 'bad_videos.txt'


@HOOKS.register_module()
class BadVideosHook(Hook):
    """List the bad videos of a :class:`RobustVideoDataset` in the work dir.

    At the end of every epoch, and of a validation or test, the videos that
    no process could load are written to ``bad_videos.txt``, a path and, after
    a tab, the reason on each line. Those of an earlier run in the same work
    dir stay in it.

    A reason that is not the video itself says so first: ``storage:``, the disk
    or the network failed each time; ``pipeline:``, a transform fails on this
    one, though others pass; ``crash:``, a loader process died on it.
    """

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the list."""
        write_bad_videos(runner, runner.train_dataloader.dataset)

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Write the list."""
        write_bad_videos(runner, runner.val_dataloader.dataset)

    def after_test_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Write the list."""
        write_bad_videos(runner, runner.test_dataloader.dataset)


def robust_datasets(dataset: Any) -> Iterator[Any]:
    """The :class:`RobustVideoDataset` behind MMEngine's wrappers."""
    for part in single_datasets(dataset):
        if hasattr(part, 'bad_videos'):
            yield part


def write_bad_videos(runner: Runner, dataset: Any) -> None:
    """Add the bad videos of all ranks to the list in the work dir.

    Raises:
        TooManyBadVideosError: If more of them are bad than the data set
            allows.
    """
    for part in robust_datasets(dataset):
        bad: dict[str, str] = {}
        for found in all_gather_object(part.bad_videos.read()):
            bad = found | bad
        if not bad:
            continue
        path = Path(runner.work_dir) / FILENAME
        if is_main_process():
            add_to_list(path, bad)
        runner.logger.warning(
            f'{len(bad)} of {len(part)} videos cannot be loaded: see {path}'
        )
        if not part.test_mode:
            part.check_share(bad)


def add_to_list(path: Path, bad: dict[str, str]) -> None:
    """Add bad videos, with reasons, to those that a file lists already."""
    listed = {}
    if path.exists():
        for line in path.read_text(encoding='utf-8').splitlines():
            name, _, reason = line.partition('\t')
            listed[name] = reason
    listed.update(bad)
    with complete_file(path) as temporary:
        temporary.write_text(
            ''.join(f'{name}\t{listed[name]}\n' for name in sorted(listed)),
            encoding='utf-8',
        )
