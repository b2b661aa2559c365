# Copyright (c) MotionMAE contributors. All rights reserved.
"""Signals that ask a process to end."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import DataLoader


class SignalWatch:
    """Notes the first signal; the second ends the process at once.

    Launchers and clusters often signal a process, its group and its parent,
    which passes the signal on: what comes within ``seconds`` of the first is
    the same request.

    Attributes:
        received (str, optional): Name of the first signal; None: none came.

    Args:
        names: Such as ``('SIGTERM', 'SIGUSR1')``.
        seconds: See above.
        clock: Shows seconds.
    """

    def __init__(
        self,
        names: Sequence[str],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.numbers = [signal.Signals[name] for name in names]
        self.seconds = seconds
        self.clock = clock
        self.received: str | None = None
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def start(self) -> None:
        """Take the signals over; not possible beside the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in self.numbers:
                self._before[number] = signal.signal(number, self._note)

    def stop(self) -> None:
        """Give them back."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, before or signal.SIG_DFL)
        self._before = {}

    def _note(self, number: int, frame: Any) -> None:
        if self.received is None:
            self.received = signal.Signals(number).name
            self._since = self.clock()
        elif self.clock() - self._since >= self.seconds:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


class _PatientWorker:
    """Sets up a process of a loader to outlive the first SIGTERM.

    Its parent needs it for the current step, and ends it afterwards. PyTorch
    itself asks it by other means; its SIGTERM is for one that does not react,
    and is followed by another.
    """

    def __init__(self, init: Callable[[int], None] | None) -> None:
        self.init = init

    def __call__(self, worker: int) -> None:
        if self.init is not None:
            self.init(worker)
        signal.signal(signal.SIGTERM, _ignore_once)


def _ignore_once(number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_DFL)


def keep_workers_alive(loader: DataLoader) -> None:
    """Let the processes of a loader that has not begun ignore one SIGTERM."""
    if not isinstance(loader.worker_init_fn, _PatientWorker):
        loader.worker_init_fn = _PatientWorker(loader.worker_init_fn)
