# Copyright (c) MotionMAE contributors. All rights reserved.
"""Processes of a data loader that have died, and of what."""

import re
import shutil
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from torch.utils.data import dataloader

# What PyTorch says when processes of a data loader have died.
_MESSAGE = re.compile(
    r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is )?([^.]*)'
)
_NO_SHARED_MEMORY = re.compile(
    r'unable to (?:allocate|mmap|open|resize|write)[^:]*(?:shm|/torch_).*'
)
_BROKEN = 'its connection broke off'
_ENDING = 120  # seconds that a process may take to end once it has crashed
# Signals that the system, or somebody, sends; no decoder ends by them.
_FROM_OUTSIDE = {
    signal.SIGBUS,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGKILL,
    signal.SIGTERM,
}


@dataclass(frozen=True)
class LoaderDeath:
    """The end of processes of a data loader.

    Attributes:
        pids: Their numbers; None if they are not known.
        end: How they ended, for a message.
        killed_by: The signal that ended one from outside; None if none has,
            so that a video may be the reason. SIGBUS: shared memory is full.
    """

    pids: set[int] | None
    end: str
    killed_by: signal.Signals | None = None


def find_loader_death(error: BaseException) -> LoaderDeath | None:
    """The death of processes of a data loader that an error tells of.

    PyTorch's message has the signal only at times; the traceback leads to the
    loader and so to the exit codes.

    Returns:
        None if it is another error.
    """
    lack = _NO_SHARED_MEMORY.search(str(error))
    if lack is not None:
        return LoaderDeath(None, lack[0], signal.SIGBUS)
    message = _MESSAGE.search(str(error))
    if message is None and not isinstance(error, (ConnectionError, EOFError)):
        return None
    pids, end = None, _BROKEN
    if message is not None:
        pids = {int(pid) for pid in message[1].split(',')}
        end = message[2].strip()
    ended = _exit_codes(error)
    if pids is None and ended:
        pids = set(ended)
    signals = {-code for pid, code in ended.items() if pid in (pids or ())}
    found = next((s for s in _FROM_OUTSIDE if s in signals), None)
    if found is None:
        found = _signal_in(end)
    if found is not None:
        end = f'{end}, {found.name}'
    return LoaderDeath(pids, end, found)


def count_oom_kills() -> int:
    """Processes that Linux has ended for lack of memory since it started.

    On this machine, in all containers; 0 if it does not tell.
    """
    try:
        text = Path('/proc/vmstat').read_text(encoding='ascii')
    except OSError:
        return 0
    found = re.search(r'^oom_kill (\d+)$', text, re.MULTILINE)
    return int(found[1]) if found else 0


def explain_killed(
    death: LoaderDeath, videos: Sequence[str] = (), oom_kills: int = 0
) -> str:
    """Say what has ended a process from outside, and what to do about it.

    Args:
        death: With a signal.
        videos: What it was reading, which need not be the reason.
        oom_kills: How many processes the kernel has meanwhile ended for lack
            of memory.
    """
    fewer = 'use fewer workers (num_workers) or a smaller prefetch_factor'
    reading = ', '.join(map(repr, videos))
    text = f'A process of the data loader has failed ({death.end}'
    text += f'; it was reading {reading}): ' if reading else '): '
    if death.killed_by == signal.SIGBUS:
        return (
            f'{text}shared memory ran out (/dev/shm{_size_of_shm()}). Make it '
            f'larger (docker run --shm-size), or {fewer}.'
        )
    if death.killed_by != signal.SIGKILL:
        return f'{text}somebody, or the batch system, has ended it.'
    sure = f'{oom_kills} such since the start, the kernel says'
    return (
        f'{text}memory ran out '
        f'({sure if oom_kills else "if nobody else has killed it"}). Give the '
        f'job more memory, or {fewer}.'
    )


def _size_of_shm() -> str:
    try:
        usage = shutil.disk_usage('/dev/shm')
    except OSError:
        return ''
    return f', {usage.total / 1e9:.3g} GB, {usage.free / 1e9:.3g} GB free now'


def _signal_in(end: str) -> signal.Signals | None:
    for number in _FROM_OUTSIDE:
        name = signal.strsignal(number)
        if name and end.endswith(f'killed by signal: {name}'):
            return number
    return None


def _exit_codes(error: BaseException) -> dict[int, int]:
    """Those of the loader's processes that have ended, by their numbers."""
    processes: list[BaseProcess] = []
    cause: BaseException | None = error
    while cause is not None and not processes:
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            loader = frame.f_locals.get('self')
            if isinstance(loader, dataloader._MultiProcessingDataLoaderIter):
                processes = list(loader._workers)
        cause = cause.__cause__ or cause.__context__
    ready: list = []
    while processes and not ready:
        try:
            ready = wait([process.sentinel for process in processes], _ENDING)
        except RuntimeError:
            continue  # PyTorch's, once the system tells it of the death
        break
    ended = {}
    for process in processes:
        if process.sentinel in ready:
            process.join(_ENDING)
        if process.pid is not None and process.exitcode:
            ended[process.pid] = process.exitcode
    return ended
