# Copyright (c) MotionMAE contributors. All rights reserved.
"""Signals that ask a process to end."""

import atexit
import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.sharedctypes import RawValue
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data._utils.worker import _worker_loop


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
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self.numbers:
            before = signal.signal(number, self._note)
            owner = getattr(before, '__self__', None)
            if isinstance(owner, SignalWatch):  # of a run that an error ended
                before = owner._before.get(number)
            self._before[number] = before

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


class WorkerShield:
    """Keeps the processes of loaders alive when all are asked to end.

    Their parent needs them for the step that it is in. While the shield is
    up, they ignore SIGTERM, and SIGUSR1, whoever sends it; they end when
    their parent does.
    """

    def __init__(self) -> None:
        self._up = RawValue(ctypes.c_bool, True)

    def cover(self, loader: DataLoader) -> None:
        """Cover the processes of a loader; they have not been started."""
        if not isinstance(loader.worker_init_fn, _CoveredWorker):
            loader.worker_init_fn = _CoveredWorker(
                loader.worker_init_fn, self._up
            )
        # Before `multiprocessing` waits for them.
        atexit.unregister(self._end_workers)
        atexit.register(self._end_workers)

    def lift(self) -> None:
        """From now on SIGTERM ends them."""
        self._up.value = False

    def _end_workers(self) -> None:
        self.lift()
        workers = [
            child
            for child in multiprocessing.active_children()
            if getattr(child, '_target', None) is _worker_loop
        ]
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(5)
            if worker.is_alive():  # in a decoder that does not return
                worker.kill()


class _CoveredWorker:
    """Sets up a process of a loader."""

    def __init__(self, init: Callable[[int], None] | None, up: Any) -> None:
        self.init = init
        self.up = up

    def __call__(self, worker: int) -> None:
        if self.init is not None:
            self.init(worker)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def _end(self, number: int, frame: Any) -> None:
        if not self.up.value:
            os._exit(0)
