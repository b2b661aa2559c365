# Copyright (c) MotionMAE contributors. All rights reserved.
"""Peak memory that a step adds to weights and optimiser state."""

import ctypes
import gc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from model_contenders import build
from model_setup import Setup, draw_batch
from model_steps import StageTimer
from torch.profiler import ProfilerActivity, profile

import mmmotionmae  # noqa: F401  (registers everything)
from mmmotionmae.apis import UsageError

WARM_UP = 2  # steps
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


def measure(mode: str, key: str, setup: Setup) -> Memory:
    """Measure a contender in this process.

    Gradients of earlier steps are dropped first.

    Args:
        mode: What it is built for.
        key: The contender.
        setup: What all have in common.
    """
    init_default_scope('mmaction')
    if setup.num_threads:
        torch.set_num_threads(setup.num_threads)
    contender = build(mode, key, setup)
    batch = draw_batch(setup, seed=0)
    timer = StageTimer(setup.device)

    def step() -> None:
        contender.step(batch, timer)

    def clean() -> None:
        contender.model.zero_grad(set_to_none=True)
        gc.collect()

    for _ in range(WARM_UP):  # makes the optimiser's state
        step()
    clean()
    if setup.device == 'cuda':
        return Memory(peak_on_gpu(step))
    resident = peak_resident(step)
    clean()
    return Memory(peak_of_tensors(step), resident)


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
