# Copyright (c) MotionMAE contributors. All rights reserved.
"""Data paths measured in turn."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from .clips import Source
from .common import (
    Clock,
    rounds,
    say,
)
from .data_floor import Floor
from .data_paths import DataPath, Draw, Reading, compare
from .data_report import (
    Speeds,
)

LOADER_PASSES = 5


def measure(
    source: Source,
    reading: Reading,
    stock: DataPath,
    ours: Sequence[DataPath],
    num_rounds: int,
    batch_size: int,
    num_workers: int = 0,
    clock: Clock = time.perf_counter,
) -> Speeds:
    """Compare data paths, and time them in turn.

    Args:
        source: What they read.
        reading: Which frames of it.
        stock: What they are compared with.
        ours: The others.
        num_rounds: In each, each reads one batch.
        batch_size: Videos in a batch.
        num_workers: Processes of a loader; 0: loaders are not measured.
        clock: Tells the time of floors and loaders.

    Raises:
        UsageError: If a video cannot be read.
    """
    batches = draw_rounds(len(source.paths), num_rounds, batch_size)
    paths = [stock, *ours]
    draws = [draw for batch in batches for draw in batch]
    say('comparing the tensors')
    compared = draws[: max(batch_size, 16)]
    texts = [compare(stock, path, compared) for path in ours]
    floors = [Floor(source, reading, rgb, clock) for rgb in (False, True)]
    timed: list[DataPath | Floor] = [*paths, *floors]
    figures: dict[str, list] = {path.name: [] for path in timed}
    for path in timed:
        path.time(batches[0])  # warm up
    for number, order in rounds(timed, num_rounds):
        for path in order:
            figures[path.name].append(path.time(batches[number]))
    return Speeds(
        f'{source.about}; clips of {reading.clip_len} frames, interval '
        f'{reading.frame_interval}, {reading.size}x{reading.size}; '
        f'{num_rounds} rounds of {batch_size} samples',
        figures,
        {path.name: path.repeats for path in timed},
        stock.name,
        floors[0].name,
        [text for text in texts if text],
        len(compared),
        time_loaders(paths, draws, batch_size, num_workers, clock),
        {path.name: path.local for path in ours if path.local},
    )


def draw_rounds(
    num_videos: int, num_rounds: int, batch_size: int
) -> list[list[Draw]]:
    """Batches of samples, of all videos equally often, always the same."""
    rng = np.random.default_rng(0)
    count = num_rounds * batch_size
    turns = -(-count // num_videos)
    indices = np.concatenate(
        [rng.permutation(num_videos) for _ in range(turns)]
    )[:count]
    draws = [Draw(int(i), seed) for seed, i in enumerate(indices)]
    return [
        draws[start : start + batch_size]
        for start in range(0, count, batch_size)
    ]


class _Drawn(Dataset):
    """Samples of a data path in the order of the draws."""

    def __init__(self, path: DataPath, draws: Sequence[Draw]) -> None:
        self.path = path
        self.draws = draws

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, number: int) -> Any:
        return self.path.load(self.draws[number])


def time_loaders(
    paths: Sequence[DataPath],
    draws: Sequence[Draw],
    batch_size: int,
    num_workers: int,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Clips per second out of loaders, for each data path and pass.

    Args:
        paths: One loader for each; they run in turn.
        draws: What a pass reads.
        batch_size: Samples in a batch.
        num_workers: Processes of a loader. 0: none is measured.
        clock: Tells the time.
    """
    rates: dict[str, list[float]] = {}
    if not num_workers:
        return rates
    loaders = {
        path.name: DataLoader(
            _Drawn(path, draws),
            batch_size=batch_size,
            num_workers=num_workers,
            multiprocessing_context='fork',
            collate_fn=path.collate,
            persistent_workers=True,
        )
        for path in paths
    }
    for number in range(LOADER_PASSES + 1):
        say(f'loaders, pass {number} of {LOADER_PASSES}')
        for path in paths:
            start = clock()
            for _ in loaders[path.name]:
                pass
            seconds = clock() - start
            if number:  # the first starts the processes
                rates.setdefault(path.name, []).append(
                    len(draws) * path.repeats / seconds
                )
    return rates
