# Copyright (c) MotionMAE contributors. All rights reserved.
"""Work on many videos, some of which crash or hang the process.

What ``tools/data/check_videos.py`` and ``resize_videos.py`` have in common.
"""

import argparse
import ctypes
import errno
import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

import cv2

from ..datasets.readers import VideoError
from ..errors import UsageError
from .command_line import run_tool, whole

Job = TypeVar('Job')
Result = TypeVar('Result')

# Processes are replaced often and must start fast.
_CONTEXT = multiprocessing.get_context('fork')
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_ENDING = 120  # seconds that a process may take to end once it has crashed


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
        if not self._process.is_alive():
            self.kill()
            self._fork()
        self._number = number
        self.end = self._clock() + self._time_limit
        self.connection.send(number)

    def finish(self) -> tuple[Job, Result | None, str]:
        """What became of the job: it is done, has crashed or is late."""
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
    """What the processes do: jobs, until they are killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # They come to all processes of a terminal or batch job; the parent knows
    # what to do.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
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


def add_job_arguments(
    parser: argparse.ArgumentParser, time_limit: float
) -> None:
    """Add ``--num-workers`` and ``--time-limit``, with this default."""
    parser.add_argument(
        '--num-workers',
        type=whole(1),
        default=len(os.sched_getaffinity(0)),
        metavar='N',
        help='videos at a time (default: one for each CPU, %(default)s)',
    )
    parser.add_argument(
        '--time-limit',
        type=_seconds,
        default=time_limit,
        metavar='SECONDS',
        help='a video that takes longer is given up as bad '
        '(default: %(default)g)',
    )


def _seconds(text: str) -> float:
    if not 0 < float(text) < float('inf'):
        raise argparse.ArgumentTypeError('must be above 0')
    return float(text)


def run_job_tool(tool: Callable[[], object]) -> int:
    """Run a tool that can be interrupted and called again.

    Returns:
        The exit code: 0; 2 after a user's mistake; 130 after Ctrl-C.
    """

    def run() -> None:
        try:
            tool()
        except OSError as error:  # such as a folder without write permission
            raise UsageError(str(error)) from error

    try:
        return run_tool(run)
    except KeyboardInterrupt:
        print(
            '\ninterrupted; the same command goes on from here',
            file=sys.stderr,
        )
        return 130
