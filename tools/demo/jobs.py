# Copyright (c) MotionMAE contributors. All rights reserved.
"""Calls of tools/train.py and tools/test.py, two at a time."""

import multiprocessing
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from mmmotionmae.cli.splits import last_lines
from mmmotionmae.utils.output import output_to
from mmmotionmae.utils.time_left import time_left

ROOT = Path(__file__).parents[2]
# Before the library: a package of it is named `test`, too.
sys.path.insert(0, str(ROOT / 'tools'))

from reports.logs import read_log, read_setting  # noqa: E402


class DemoError(RuntimeError):
    """The demo cannot go on."""


@dataclass(frozen=True)
class Job:
    """One call of a tool.

    Attributes:
        name: For the progress line and the log file.
        tool: ``'train'`` or ``'test'``.
        args: Its arguments.
        work_dir: Where it writes.
        cost: Seconds that it takes, about, to tell how much is left.
    """

    name: str
    tool: str
    args: tuple[str, ...]
    work_dir: Path
    cost: float = 1.0

    @property
    def command(self) -> str:
        """The same call from a shell."""
        return f'python tools/{self.tool}.py {shlex.join(self.args)}'


@dataclass
class Results:
    """What the jobs gave.

    Attributes:
        seconds: Duration of each job.
        metrics: Metrics of each test, and of each validated training.
        commands: All commands, in order.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)


def run_job(
    job: Job, log: Path, alone: bool
) -> tuple[float, dict[str, float]]:
    """Run a job in this process; its output goes to a file.

    Args:
        job: What to run.
        log: The file.
        alone: Whether it has all cores to itself.

    Returns:
        Seconds, and the metrics of a test or of the last validation.
    """
    import torch

    if not alone:
        torch.set_num_threads(1)
    start = time.perf_counter()
    metrics: dict[str, float] = {}
    with output_to(log):
        if job.tool == 'train':
            import train

            train.train(train.parse_args(job.args))
            metrics = dict(next(reversed(read_log(job.work_dir).val), {}))
        else:
            import test

            metrics = test.test(test.parse_args(job.args))
    return time.perf_counter() - start, metrics


class Stage:
    """Runs jobs two at a time and tells how they go.

    Args:
        out_dir: The folder of the demo.
        results: Where to note what the jobs give.
        total: Cost of all jobs that there will be.
        clock: In seconds.
    """

    def __init__(
        self,
        out_dir: Path,
        results: Results,
        total: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.out_dir = out_dir
        self.results = results
        self.total = total
        self.done = 0.0  # cost of those that have ended
        self.clock = clock
        self.start = clock()
        # Forked workers would inherit the threads of this process.
        self.pool = ProcessPoolExecutor(
            max_workers=2, mp_context=multiprocessing.get_context('spawn')
        )

    def say(self, text: str) -> None:
        """Print with the time since the start."""
        minutes, seconds = divmod(int(self.clock() - self.start), 60)
        print(f'[{minutes:02d}:{seconds:02d}] {text}', flush=True)

    def log_of(self, job: Job) -> Path:
        """Where a job's output goes."""
        name = ''.join(c if c.isalnum() else '_' for c in job.name)
        return self.out_dir / 'logs' / f'{name}.txt'

    def run(
        self,
        jobs: Sequence[Job],
        then: Mapping[str, Callable[[], Sequence[Job]]] | None = None,
    ) -> None:
        """Run jobs to their end, in this order, as cores become free.

        Args:
            jobs: What can run at once.
            then: What can run once the job of this name is done; asked for
                not before.

        Raises:
            DemoError: If one fails; the message shows the end of its log.
        """
        later = dict(then or {})
        alone = len(jobs) == 1 and not later
        futures: dict[Future, Job] = {}
        pending: set[Future] = set()

        def add(more: Sequence[Job]) -> None:
            new = {self._submit(job, alone): job for job in more}
            futures.update(new)
            pending.update(new)
            self.results.commands += [job.command for job in more]

        add(jobs)
        while pending:
            done, _ = wait(pending, timeout=10, return_when='FIRST_COMPLETED')
            pending -= done
            for future in done:
                job = futures[future]
                self._finish(future, job)
                if job.name in later:
                    add(later.pop(job.name)())
            if not done:
                self._show([futures[future] for future in pending])

    def _submit(self, job: Job, alone: bool) -> Future:
        try:
            return self.pool.submit(run_job, job, self.log_of(job), alone)
        except BrokenProcessPool as error:  # an earlier one has died by now
            failed: Future = Future()
            failed.set_exception(error)
            return failed

    def _show(self, jobs: Sequence[Job]) -> None:
        """Tell how far jobs that run are, and the time that is left."""
        done = self.done
        for job in jobs:
            log = read_log(job.work_dir)
            if not log.train or log.folder is None:
                continue  # it waits, or has only begun
            done += job.cost * (read_setting(log.folder).position or 0)
            scalars = log.train[-1]
            values = ', '.join(
                f'{key} {scalars[key]:.3f}'
                for key in ('loss', 'r2_pixel', 'r2_motion_moving', 'top1_acc')
                if key in scalars
            )
            self.say(f'  {job.name}: step {scalars["step"]:.0f}, {values}')
        left = time_left(done, self.total, self.clock() - self.start)
        if left:
            self.say(f'  {left}')

    def _finish(self, future: Future, job: Job) -> None:
        try:
            seconds, metrics = future.result()
        except Exception as error:
            log = self.log_of(job)
            end = '\n'.join(last_lines(log))
            self.pool.shutdown(cancel_futures=True)
            raise DemoError(
                f'{job.name} failed: {error}\n{end}\nIts whole output is in '
                f'{log}; to run it alone, in {ROOT}: {job.command}'
            ) from error
        self.done += job.cost
        self.results.seconds[job.name] = seconds
        self.results.metrics[job.name] = metrics
        scores = ', '.join(
            f'{key.split("/")[-1]} {100 * value:.1f} %'
            for key, value in metrics.items()
            if key == 'acc/top1'
        )
        self.say(f'{job.name}: done in {seconds:.0f} s {scores}')


def train_job(
    name: str,
    config: Path,
    work_dir: Path,
    *args: str,
    options: Sequence[str],
    cost: float = 1.0,
) -> Job:
    """A call of tools/train.py."""
    cfg_options = ('--cfg-options', *options) if options else ()
    argv = (str(config), '--work-dir', str(work_dir), *args, *cfg_options)
    return Job(name, 'train', argv, work_dir, cost)
