# Copyright (c) MotionMAE contributors. All rights reserved.
"""Loading videos in processes that a video may crash."""

from collections.abc import Collection, Iterator

import cv2
import numpy as np
from torch.utils.data import DataLoader

from ...utils.errors import UsageError
from ...utils.loader_deaths import explain_killed, find_loader_death
from ...utils.time_left import progress_bar
from .clips import ClipDataset
from .encoder import ClipEncoder
from .parts import FeatureSink


def load_batches(
    dataset: ClipDataset,
    start: int,
    batch_size: int,
    num_workers: int,
    skip: Collection[str] = (),
) -> Iterator[list[dict]]:
    """Load videos in their order.

    Args:
        dataset: The videos.
        start: The first.
        batch_size: Videos at a time.
        num_workers: Processes that load; 0: this one.
        skip: Names of videos that are not to be loaded.

    Yields:
        ``batch_size`` samples, see :class:`ClipDataset`.
    """
    skip = set(skip)
    batches = [
        range(first, min(first + batch_size, len(dataset)))
        for first in range(start, len(dataset), batch_size)
    ]
    wanted = [
        [idx for idx in batch if dataset.name_of(idx) not in skip]
        for batch in batches
    ]
    num_workers = min(num_workers, len(batches))
    loader: DataLoader = DataLoader(
        dataset,
        batch_sampler=wanted,
        num_workers=num_workers,
        # As those of a training. From Python 3.14 on the default is another,
        # whose processes import everything anew and need a script's guard.
        multiprocessing_context='fork' if num_workers else None,
        collate_fn=list,
        worker_init_fn=_init_worker,
    )
    try:
        for batch, loaded in zip(batches, loader, strict=True):
            found = {sample['name']: sample for sample in loaded}
            yield [
                found.get(name) or dict(name=name, clips=None, reason='')
                for name in map(dataset.name_of, batch)
            ]
    except (EOFError, OSError):
        # Once it learns of the death, PyTorch raises an error of its own:
        # here, and not where the caller deals with this one.
        dataset.bad_videos.await_ends()
        raise


def _init_worker(_: int) -> None:
    cv2.setNumThreads(0)  # there are processes enough


def videos_died_of(
    dataset: ClipDataset, error: Exception, before: Collection[int]
) -> dict[str, str]:
    """The videos that have taken processes of the loader along.

    Args:
        dataset: The videos.
        error: What came of it. If the process has died while its last batch
            was fetched, it is one of the connection.
        before: Numbers of processes that had ended before.

    Returns:
        Their names, with the reason; empty if the error is another one.

    Raises:
        UsageError: If a process was killed from outside, as for lack of
            memory, so that no video is to blame.
    """
    death = find_loader_death(error)
    if death is None:
        return {}
    reason = f'crash: its loader process died ({death.end})'
    died = dataset.bad_videos.died_of().items()
    found = {name: reason for pid, name in died if pid not in before}
    if death.killed_by is not None:
        raise UsageError(
            f'{explain_killed(death, list(found))} Then the same call goes on '
            'from here.'
        ) from error
    return found


def fill(
    sink: FeatureSink,
    dataset: ClipDataset,
    encode: ClipEncoder,
    batch_size: int,
    num_workers: int,
    progress: bool,
) -> None:
    """Encode the videos that are missing.

    Args:
        sink: Where the rows go.
        dataset: The videos.
        encode: Makes rows of clips.
        batch_size: Videos at a time.
        num_workers: Processes that load.
        progress: Show a progress bar.

    Raises:
        UsageError: If a feature is not finite.
    """
    crashed = dict(sink.bad)
    bar = progress_bar(len(dataset), 'video', sink.done, progress)
    with bar:
        while sink.done < len(dataset):
            ended = dataset.bad_videos.died_of().keys()
            try:
                for samples in load_batches(
                    dataset, sink.done, batch_size, num_workers, crashed
                ):
                    rows = encode([sample['clips'] for sample in samples])
                    _check_finite(rows, samples)
                    bad = {
                        sample['name']: sample['reason']
                        or crashed[sample['name']]
                        for sample in samples
                        if sample['clips'] is None
                    }
                    sink.add(rows, bad)
                    bar.update(len(rows))
            except (EOFError, OSError, RuntimeError) as error:
                found = videos_died_of(dataset, error, ended)
                if not found:
                    raise
                crashed |= found
                sink.add_bad(found)


def _check_finite(rows: np.ndarray, samples: list[dict]) -> None:
    for row, sample in zip(rows, samples, strict=True):
        if sample['clips'] is not None and not np.isfinite(row).all():
            raise UsageError(
                f'The feature of {sample["name"]!r} is not finite: the '
                'weights are broken, or it is too large for '
                f'{rows.dtype} or for amp.'
            )
