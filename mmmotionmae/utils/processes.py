# Copyright (c) MotionMAE contributors. All rights reserved.
"""Processes that work and may die: jobs on videos, scores of sequences."""

import ctypes
import errno
import faulthandler
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

import cv2

from .errors import ScoringError, UsageError, VideoError

Job = TypeVar('Job')
Result = TypeVar('Result')

Score = TypeVar('Score')

# A forked process starts at once; one that imports this package anew takes
# seconds, for PyTorch. As in the processes of a data loader, threads and
# devices of the parent are not there: a job may use NumPy and Pillow, but
# neither PyTorch nor OpenCV's threads.
_CONTEXT = multiprocessing.get_context('fork')
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_ENDING = 120  # seconds that a process may take to end once it has crashed
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_with_parent(handler: signal.Handlers) -> None:
    """End this process when its parent does, also if that is killed.

    Args:
        handler: Of the signals that come to all processes of a terminal or
            batch job; what is inherited is meant for the parent.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)
    for number in _SIGNALS:
        signal.signal(number, handler)


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    num_workers: int,
    time_limit: float,
    clean_up: Callable[[Job], object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[tuple[Job, Result | None, str], None, None]:
    """Call a function for each job, in processes of its own.

    The process that a job crashes, or that takes too long, is replaced, and
    the others go on. All end when the iterator is closed.

    Args:
        function: What to do. A :class:`UsageError`, an :class:`ImportError`
            or a full disk ends everything; any other error is the job's.
        jobs: Its arguments.
        num_workers: How many processes.
        time_limit: Seconds that one job may take; then its process is killed.
        clean_up: Called with each job whose process has crashed or been
            killed.
        clock: What the limit is measured with, in seconds.

    Yields:
        In the order of completion: the job; the result, None if there is
        none; why there is none, one line, else ``''``.

    Raises:
        UsageError: If the work cannot go on.
    """
    queue = iter(range(len(jobs)))
    workers = [
        _Worker(function, jobs, time_limit, clean_up, clock)
        for _ in range(min(num_workers, len(jobs)))
    ]
    busy = list(workers)
    try:
        for worker in workers:
            worker.start(next(queue))
        while busy:
            left = min(worker.end for worker in busy) - clock()
            ready = wait([w.connection for w in busy], max(0.0, left))
            now = clock()
            for worker in list(busy):
                if worker.connection not in ready and now < worker.end:
                    continue
                yield worker.finish()
                try:
                    worker.start(next(queue))
                except StopIteration:
                    busy.remove(worker)
    finally:
        for worker in workers:
            worker.kill()


class _Worker(Generic[Job, Result]):
    """A process that does one job at a time."""

    def __init__(
        self,
        function: Callable[[Job], Result],
        jobs: Sequence[Job],
        time_limit: float,
        clean_up: Callable[[Job], object] | None,
        clock: Callable[[], float],
    ) -> None:
        self._function = function
        self._jobs = jobs
        self._time_limit = time_limit
        self._clean_up = clean_up
        self._clock = clock
        self._number: int | None = None  # of the job in progress
        self._fork()

    def _fork(self) -> None:
        self.connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=_serve,
            args=(theirs, self._function, self._jobs),
            daemon=True,
        )
        self._process.start()
        theirs.close()  # the connection then ends with the process

    def start(self, number: int) -> None:
        self.end = self._clock() + self._time_limit  # it may begin at once
        try:
            self._send(number)
        except ConnectionError:  # the process has died after its last job
            self._number = None
            self.kill()
            self._fork()
            self._send(number)

    def _send(self, number: int) -> None:
        self._number = number
        self.connection.send(number)

    def finish(self) -> tuple[Job, Result | None, str]:
        """End a job that is done, has crashed or is late."""
        assert self._number is not None
        job = self._jobs[self._number]
        if not self.connection.poll():
            reason = f'takes more than {self._time_limit:g} s'
        else:
            try:
                result, reason, fatal = self.connection.recv()
            except (EOFError, ConnectionError):
                self._process.join(_ENDING)
                reason = _crash(self._process.exitcode)
            else:
                self._number = None
                if fatal:
                    raise UsageError(reason)
                return job, result, reason
        self.kill()
        self._fork()
        return job, None, reason

    def kill(self) -> None:
        self._process.kill()
        self._process.join(5)  # the file system may hold it back
        self.connection.close()
        if self._clean_up is not None and self._number is not None:
            self._clean_up(self._jobs[self._number])
        self._number = None


def _crash(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f'the decoder ended its process (exit code {exit_code})'
    name = signal.Signals(-exit_code).name
    hint = ', for lack of memory?' if name == 'SIGKILL' else ''
    return f'the decoder crashed ({name}{hint})'


def _serve(
    connection: Connection,
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
) -> None:
    """Main function of the processes: jobs, until they are killed."""
    end_with_parent(signal.SIG_IGN)  # the parent knows what to do
    # What they print in a crash, and before, would tear the progress bar.
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    cv2.setNumThreads(0)  # OpenCV's threads do not survive a fork
    while True:
        connection.send(_attempt(function, jobs[connection.recv()]))


def _attempt(
    function: Callable[[Job], Result], job: Job
) -> tuple[Result | None, str, bool]:
    """Result, reason why there is none, and whether all must end."""
    try:
        return function(job), '', False
    except Exception as error:
        reason = ' '.join(str(error).split('\n')[0].split())
        if not isinstance(error, (VideoError, UsageError)):
            reason = f'{type(error).__name__}: {reason}'
        full = getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT)
        fatal = full or isinstance(error, (UsageError, ImportError))
        return None, reason, fatal


def default_num_workers() -> int:
    """Number of processes that score beside a model that runs.

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
                self._futures[-1].set_result(_score(sequence, job))
            for future in self._futures:
                if future.done():
                    future.result()

    def _start(self, sequence: str, job: Callable[[], Score]) -> Future[Score]:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self._num_workers, _CONTEXT, end_with_parent, (signal.SIG_DFL,)
            )
        return self._executor.submit(_score, sequence, job)

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


def _score(sequence: str, job: Callable[[], Score]) -> Score:
    try:
        return job()
    except Exception as error:
        kind = '' if isinstance(error, ValueError) else type(error).__name__
        raise ScoringError(
            f'{sequence} cannot be scored: {kind and kind + ": "}{error}'
        ) from error
