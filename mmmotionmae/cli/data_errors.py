# Copyright (c) MotionMAE contributors. All rights reserved.
"""Bad videos: what ``tools/train.py`` and ``test.py`` do about them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ..engine.hooks.bad_videos_hook import (
    FILENAME,
    add_to_list,
    robust_datasets,
)
from ..utils.errors import (
    ScoringError,
    SequenceError,
    TooManyBadVideosError,
    UsageError,
)
from ..utils.processes import find_loader_death


def leave_out_bad_videos(cfg: Config) -> None:
    """Evaluate on the videos that can be read, and report how many cannot.

    Sets ``leave_out`` of each :class:`RobustVideoDataset` to evaluate on and
    puts its metrics into a :class:`VideoEvaluator`; what the config chooses
    itself stays.
    """
    for stage in ('val', 'test'):
        loader = cfg.get(f'{stage}_dataloader')
        evaluator = cfg.get(f'{stage}_evaluator')
        if not loader or not evaluator or 'metrics' in evaluator:
            continue
        if loader.dataset.get('type') == 'RobustVideoDataset':
            loader.dataset.setdefault('leave_out', True)
            cfg[f'{stage}_evaluator'] = dict(
                type='VideoEvaluator', metrics=evaluator
            )


@contextmanager
def explain_data_errors(runner: Runner) -> Iterator[None]:
    """Say in one line what was wrong with the videos.

    A decoder may crash on a broken file and take its process along; PyTorch
    then ends the run and knows no more than the number of the process. The
    video is added to ``bad_videos.txt`` in the work dir.

    Raises:
        UsageError: If too many videos are bad, a file of a sequence is, or
            with the name of the video that a process of the data loader has
            died of.
    """
    try:
        try:
            yield
        except (ConnectionError, EOFError):
            # A batch that is under way when its process dies breaks off,
            # before the process has ended.
            for dataset in _datasets(runner):
                dataset.bad_videos.await_ends()
            raise
    except (
        FileNotFoundError,
        ScoringError,
        SequenceError,
        TooManyBadVideosError,
    ) as error:
        # From a process of the loader it comes with a traceback in its text.
        text = str(error).strip()
        if 'Original Traceback' in text:
            text = text.splitlines()[-1].partition('Error: ')[2]
        raise UsageError(text) from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        death = find_loader_death(error)
        if death is None and isinstance(error, RuntimeError):
            raise
        pids, end = death or (None, 'its connection broke off')
        videos = [
            video
            for dataset in _datasets(runner)
            for pid, video in dataset.bad_videos.died_of().items()
            if pids is None or pid in pids
        ]
        if not videos:
            raise
        reason = f'its loader process died ({end})'
        path = Path(runner.work_dir) / FILENAME
        add_to_list(path, dict.fromkeys(videos, reason))
        raise UsageError(
            'A process of the data loader has died '
            f'({end}) while reading '
            f'{", ".join(map(repr, videos))}. Take it off the list, or try '
            'another decoder, and go on with --resume.'
        ) from error


def _datasets(runner: Runner) -> Iterator[Any]:
    for loop in (runner.train_loop, runner.val_loop, runner.test_loop):
        loader = getattr(loop, 'dataloader', None)
        yield from robust_datasets(getattr(loader, 'dataset', None))
