# Copyright (c) MotionMAE contributors. All rights reserved.
"""Processes that hang, and waiting for what is sure to come.

No test depends on how fast a machine is: what is awaited comes sooner or
later, and what must not come in time waits for ever.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

# Seconds after which something is taken to hang. Nothing in the tests takes
# so long, on however slow or busy a machine.
HUNG = 1800


def hang() -> NoReturn:
    """Never return."""
    while True:
        time.sleep(HUNG)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that is sure to come."""
    end = time.monotonic() + HUNG
    while not condition():
        assert time.monotonic() < end, 'it hangs'
        time.sleep(0.01)


def running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.split()[0] not in 'ZX'


def clock_until(note: Path) -> Callable[[], float]:
    """A clock that stands still.

    Once there is a file, with which a process says that it hangs, all limits
    of before are over. Then it stands still again.
    """
    return lambda: 1e9 if note.exists() else 0.0
