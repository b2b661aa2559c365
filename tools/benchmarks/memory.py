# Copyright (c) MotionMAE contributors. All rights reserved.
"""Peak memory that a step adds, and growth of a loader's process."""

import ctypes
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset

from mmmotionmae.apis import UsageError

Step = Callable[[], object]


@dataclass(frozen=True)
class Memory:
    """What a step adds at its peak, in bytes.

    Attributes:
        tensors: Memory of tensors, counted exactly.
        resident: Memory of the process; None where the system does not tell.
    """

    tensors: int
    resident: int | None = None

    def as_dict(self) -> dict[str, int | None]:
        """For the JSON file."""
        return asdict(self)


def measure_apart(
    measure: Callable[..., Memory], *args: object, way_out: str
) -> Memory:
    """Measure in a process of its own.

    Args:
        measure: What to call there.
        *args: Its arguments.
        way_out: What a user may do if memory runs out.

    Raises:
        UsageError: If the process does not survive it.
    """
    try:
        with ProcessPoolExecutor(1, get_context('spawn')) as pool:
            return pool.submit(measure, *args).result()
    except BrokenProcessPool as error:
        raise UsageError(
            'A process that measured memory ended at once; if no reason '
            f'stands above, memory ran out. {way_out}'
        ) from error


def peak_of_tensors(step: Step) -> int:
    """Bytes that PyTorch's CPU allocator adds at the peak of a step.

    Exact: the sum of all that is allocated and freed. Memory that was
    allocated before does not count when it is freed.
    """
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        step()
    assert profiler.profiler is not None
    events = [
        event
        for event in profiler.profiler.kineto_results.events()
        if event.name() == '[memory]'
    ]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def peak_resident(step: Step) -> int | None:
    """Bytes that the process adds at the peak of a step (Linux only)."""
    try:
        # Otherwise free memory that the heap keeps would hide the peak.
        ctypes.CDLL(None).malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    except (OSError, AttributeError):
        return None
    before = _status('VmRSS')
    step()
    return _status('VmHWM') - before


def peak_on_gpu(step: Step) -> int:
    """Bytes that PyTorch's CUDA allocator adds at the peak of a step."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _status(field: str) -> int:
    """A field of the process status, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{field}:'):
            return 1024 * int(line.split()[1])
    raise UsageError(f'/proc/self/status does not tell {field}.')


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
        multiprocessing_context='fork',
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
