# Copyright (c) MotionMAE contributors. All rights reserved.
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Generic, TypeVar

Score = TypeVar('Score')

# A forked process starts at once; one that imports this package anew takes
# seconds, for PyTorch. As in the processes of a data loader, threads and
# devices of the parent are not there: a job may use NumPy and Pillow, but
# neither PyTorch nor OpenCV's threads.
_CONTEXT = multiprocessing.get_context('fork')
_PR_SET_PDEATHSIG = 1  # of prctl(2)


class ScoringError(RuntimeError):
    """A sequence cannot be scored; the message says which one and why."""


def default_num_workers() -> int:
    """How many processes score beside a model that runs.

    One CPU is left to the model, and four processes are as fast as any: each
    scores hundreds of frames a second. The processes of a distributed test on
    this machine share its CPUs.
    """
    num_cpus = len(os.sched_getaffinity(0))
    share = num_cpus // int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    return max(0, min(4, share - 1))


class ScoringPool(Generic[Score]):
    """Processes that score sequences while this one goes on.

    They start with the first sequence, and end with this process, whatever
    ends it.

    Args:
        num_workers: How many; with 0 the work is done in this process.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._executor: ProcessPoolExecutor | None = None
        self._futures: list[Future[Score]] = []

    def submit(self, sequence: str, job: Callable[[], Score]) -> None:
        """Have a sequence scored.

        Args:
            sequence: Its name, for errors.
            job: What to do. It and what it returns must be picklable.

        Raises:
            ScoringError: If this one, in this process, or an earlier one
                cannot be scored. All others are then given up.
        """
        with self._close_on_error():
            if self._num_workers:
                self._futures.append(self._start(sequence, job))
            else:
                self._futures.append(Future())
                self._futures[-1].set_result(_attempt(sequence, job))
            for future in self._futures:
                if future.done():
                    future.result()

    def _start(self, sequence: str, job: Callable[[], Score]) -> Future[Score]:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self._num_workers, _CONTEXT, _end_with, (os.getpid(),)
            )
        return self._executor.submit(_attempt, sequence, job)

    def finish(self) -> list[Score]:
        """Wait for all that was submitted.

        Returns:
            What the jobs returned, in the order of their submission. After
            that the pool is as new.

        Raises:
            ScoringError: If a sequence cannot be scored.
        """
        with self._close_on_error():
            scores = [future.result() for future in self._futures]
        self.close()
        return scores

    @contextmanager
    def _close_on_error(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool as error:
            self.close()
            raise ScoringError(
                'A process that scores has died, maybe for lack of memory. '
                'With num_workers=0 there are none.'
            ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up what has not begun, and end the processes."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._executor = None
        self._futures = []


def _attempt(sequence: str, job: Callable[[], Score]) -> Score:
    try:
        return job()
    except Exception as error:
        kind = '' if isinstance(error, ValueError) else type(error).__name__
        raise ScoringError(
            f'{sequence} cannot be scored: {kind and kind + ": "}{error}'
        ) from error


def _end_with(parent: int) -> None:
    """Let this process end when its parent does, also if that is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # What is inherited is meant for the parent. Ctrl-C comes to all.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
