# Copyright (c) MotionMAE contributors. All rights reserved.
"""Calls of tools/train.py and tools/test.py, two at a time."""

import json
import multiprocessing
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from mmmotionmae.cli.splits import last_lines
from mmmotionmae.utils.output import output_to

ROOT = Path(__file__).parents[2]


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
    """

    name: str
    tool: str
    args: tuple[str, ...]
    work_dir: Path

    @property
    def command(self) -> str:
        """The same call from a shell."""
        return f'python tools/{self.tool}.py {shlex.join(self.args)}'


@dataclass
class Results:
    """What the jobs gave.

    Attributes:
        seconds: Duration of each job.
        metrics: Metrics of each test.
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
        Seconds, and the metrics of a test.
    """
    import torch

    if str(ROOT / 'tools') not in sys.path:
        sys.path.insert(0, str(ROOT / 'tools'))
    if not alone:
        torch.set_num_threads(1)
    start = time.perf_counter()
    metrics: dict[str, float] = {}
    with output_to(log):
        if job.tool == 'train':
            import train

            train.train(train.parse_args(job.args))
        else:
            import test

            metrics = test.test(test.parse_args(job.args))
    return time.perf_counter() - start, metrics


def last_scalars(work_dir: Path) -> dict[str, float]:
    """The last line that a training logged, if there is one."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    lines = files[-1].read_text().splitlines() if files else []
    rows = [json.loads(line) for line in lines if line.endswith('}')]
    return next((row for row in reversed(rows) if 'loss' in row), {})


class Stage:
    """Runs jobs two at a time and tells how they go."""

    def __init__(self, out_dir: Path, results: Results) -> None:
        self.out_dir = out_dir
        self.results = results
        self.start = time.perf_counter()
        # Forked workers would inherit the threads of this process.
        self.pool = ProcessPoolExecutor(
            max_workers=2, mp_context=multiprocessing.get_context('spawn')
        )

    def say(self, text: str) -> None:
        """Print with the time since the start."""
        minutes, seconds = divmod(int(time.perf_counter() - self.start), 60)
        print(f'[{minutes:02d}:{seconds:02d}] {text}', flush=True)

    def log_of(self, job: Job) -> Path:
        """Where a job's output goes."""
        name = ''.join(c if c.isalnum() else '_' for c in job.name)
        return self.out_dir / 'logs' / f'{name}.txt'

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs to their end.

        Raises:
            DemoError: If one fails; the message shows the end of its log.
        """
        futures = {self._submit(job, len(jobs) == 1): job for job in jobs}
        self.results.commands += [job.command for job in jobs]
        pending = set(futures)
        while pending:
            done, pending = wait(
                pending, timeout=10, return_when='FIRST_COMPLETED'
            )
            for future in done:
                self._finish(future, futures[future])
            for future in pending:
                scalars = last_scalars(futures[future].work_dir)
                if scalars and not done:
                    self._show(futures[future], scalars)

    def _submit(self, job: Job, alone: bool) -> Future:
        try:
            return self.pool.submit(run_job, job, self.log_of(job), alone)
        except BrokenProcessPool as error:  # an earlier one has died by now
            failed: Future = Future()
            failed.set_exception(error)
            return failed

    def _show(self, job: Job, scalars: dict[str, float]) -> None:
        values = ', '.join(
            f'{key} {scalars[key]:.3f}'
            for key in ('loss', 'r2_pixel', 'r2_motion_moving', 'top1_acc')
            if key in scalars
        )
        self.say(f'  {job.name}: step {scalars["step"]}, {values}')

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
        self.results.seconds[job.name] = seconds
        self.results.metrics[job.name] = metrics
        scores = ', '.join(
            f'{key.split("/")[-1]} {100 * value:.1f} %'
            for key, value in metrics.items()
            if key == 'acc/top1'
        )
        self.say(f'{job.name}: done in {seconds:.0f} s {scores}')


def train_job(
    name: str, config: Path, work_dir: Path, *args: str, options: Sequence[str]
) -> Job:
    """A call of tools/train.py."""
    cfg_options = ('--cfg-options', *options) if options else ()
    argv = (str(config), '--work-dir', str(work_dir), *args, *cfg_options)
    return Job(name, 'train', argv, work_dir)
