# Copyright (c) MotionMAE contributors. All rights reserved.
"""Whether the memory of a loader's process grows."""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from mmmotionmae.apis import UsageError

EVERY = 500  # samples from one look at the memory to the next
WARM_UP = 0.1  # share of the looks that do not count
LIMIT = 0.05  # of growth
FEWEST = 10  # looks


@dataclass(frozen=True)
class MemoryCheck:
    """Memory of a loader's process in the course of many samples.

    Attributes:
        name: What was loaded.
        every: Samples from one look to the next.
        rss: Resident memory at each look, in bytes.
    """

    name: str
    every: int
    rss: tuple[int, ...]

    @property
    def quarters(self) -> tuple[float, float]:
        """Mean of the first and of the last quarter after the warm-up."""
        counted = self.rss[int(len(self.rss) * WARM_UP) :]
        quarter = len(counted) // 4
        return (
            float(np.mean(counted[:quarter])),
            float(np.mean(counted[-quarter:])),
        )

    @property
    def growth(self) -> float:
        """From the first to the last quarter, as a share of the first."""
        first, last = self.quarters
        return last / first - 1

    @property
    def steady(self) -> bool:
        """Whether it stays within the limit."""
        return abs(self.growth) <= LIMIT

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        first, last = self.quarters
        return dict(
            name=self.name,
            every=self.every,
            rss=self.rss,
            first_quarter=first,
            last_quarter=last,
            growth=self.growth,
            steady=self.steady,
        )


class _Repeated(Dataset):
    """The samples of a data set over and over."""

    def __init__(self, dataset: Any, length: int) -> None:
        self.dataset = dataset
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index % len(self.dataset)]


def check_memory(
    name: str,
    dataset: Any,
    collate: Callable[[list], Any],
    num_samples: int,
    every: int = EVERY,
    batch_size: int = 10,
) -> MemoryCheck:
    """Draw samples in one process of a loader and watch its memory.

    Args:
        name: What is loaded.
        dataset: Its samples are drawn in turn, again and again.
        collate: Joins samples to a batch.
        num_samples: How many are drawn.
        every: Samples from one look at the memory to the next; a multiple of
            the batch size.
        batch_size: Samples in a batch.

    Raises:
        UsageError: If there are too few samples, or no ``/proc``.
    """
    if num_samples < FEWEST * every:
        raise UsageError(
            f'The memory check needs at least {FEWEST * every} samples.'
        )
    others = {child.pid for child in multiprocessing.active_children()}
    loader = DataLoader(
        _Repeated(dataset, num_samples),
        batch_size=batch_size,
        num_workers=1,
        collate_fn=collate,
    )
    rss = []
    batches = iter(loader)
    children = {child.pid for child in multiprocessing.active_children()}
    (worker,) = children - others
    for number in range(1, num_samples // batch_size + 1):
        next(batches)
        if number * batch_size % every == 0:
            rss.append(resident_memory(worker))
    return MemoryCheck(name, every, tuple(rss))


def resident_memory(pid: int | None) -> int:
    """Bytes of memory that a process holds.

    Raises:
        UsageError: If the system does not tell.
    """
    try:
        pages = Path(f'/proc/{pid}/statm').read_text().split()[1]
    except OSError as error:
        raise UsageError(
            'The memory check reads /proc, as there is on Linux.'
        ) from error
    return int(pages) * os.sysconf('SC_PAGE_SIZE')
