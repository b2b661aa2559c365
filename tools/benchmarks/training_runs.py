# Copyright (c) MotionMAE contributors. All rights reserved.
"""The loader alone, the model alone, and both in MMEngine's runner."""

import gc
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmotionmae.cli.data_errors import explain_data_errors

from .common import Clock, say, synchronize, usable_cpus
from .training_report import Figures
from .training_setup import Setting, build_runner

SIDES = ('loader', 'model', 'trainer')


class EnoughSteps(Exception):  # noqa: N818  (no error)
    """All that was to be timed has been timed."""


def clips_of(batch: dict[str, Any]) -> int:
    """Clips in a batch as a loader hands it over: (N, C, T, H, W) each."""
    return sum(len(clips) for clips in batch['inputs'])


def whole_bursts(number: int, num_workers: int) -> int:
    """The next multiple of ``num_workers``, at least one.

    Each process of a loader makes whole batches, so that they come in bursts
    of as many as there are processes; a part of one says nothing.
    """
    burst = max(num_workers, 1)
    return max(-(-number // burst), 1) * burst


def time_loader(
    runner: Runner,
    num_batches: int,
    warmup: int,
    clock: Clock = time.perf_counter,
) -> list[float]:
    """Time the loader of a runner, with nobody using the batches.

    Args:
        runner: Its data loader is read.
        num_batches: How many batches to time; at least two bursts are.
        warmup: Batches before that; at least one burst.
        clock: Tells the time.

    Returns:
        Clips per second of each burst.

    Raises:
        UsageError: If too many videos are bad.
    """
    loader = runner.train_dataloader
    burst = max(loader.num_workers, 1)
    rates = []
    with explain_data_errors(runner):
        batches = _endless(loader)
        for _ in range(whole_bursts(warmup, burst)):
            next(batches)
        start = clock()
        for _ in range(max(whole_bursts(num_batches, burst) // burst, 2)):
            clips = sum(clips_of(next(batches)) for _ in range(burst))
            end = clock()
            rates.append(clips / (end - start))
            start = end
    return rates


def _endless(loader: Any) -> Iterator[dict[str, Any]]:
    """Batches of one epoch after another."""
    while True:
        yield from loader


def first_batch(runner: Runner) -> dict[str, Any]:
    """A batch of the runner's data, loaded in this process.

    Raises:
        UsageError: If too many videos are bad.
    """
    cfg = dict(runner.cfg.train_dataloader)
    cfg.update(num_workers=0, persistent_workers=False)
    cfg.pop('prefetch_factor', None)
    with explain_data_errors(runner):
        return next(iter(Runner.build_dataloader(cfg, seed=0)))


def time_model(
    runner: Runner,
    batch: dict[str, Any],
    device: torch.device,
    num_steps: int,
    warmup: int,
    clock: Clock = time.perf_counter,
) -> list[float]:
    """Time training steps on one batch that is there already.

    A step is MMEngine's: frames to the device, forward and backward pass, and
    the optimiser of the config. The runner is not changed, but for its
    weights.

    Args:
        runner: Its model is trained.
        batch: What a loader hands over.
        device: Where the model is.
        num_steps: How many steps to time.
        warmup: Steps before that.
        clock: Tells the time.

    Returns:
        Clips per second of each step.
    """
    model = runner.model.train()
    optimizer = runner.build_optim_wrapper(runner.cfg.optim_wrapper.copy())
    optimizer.initialize_count_status(model, 0, warmup + num_steps)
    rates = []
    for _ in range(warmup + num_steps):
        synchronize(device)
        start = clock()
        model.train_step(batch, optim_wrapper=optimizer)
        synchronize(device)
        rates.append(clips_of(batch) / (clock() - start))
    optimizer.zero_grad()
    return rates[warmup:]


class StepTimer(Hook):
    """Time a run from one step to another, and then end it.

    Args:
        device: Where the model is.
        num_steps: How many steps to time.
        warmup: Steps before that.
        clock: Tells the time.
    """

    # After all other hooks, so that their time counts.
    priority = 'LOWEST'

    def __init__(
        self,
        device: torch.device,
        num_steps: int,
        warmup: int,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.device = device
        self.clock = clock
        self.first, self.last = warmup, warmup + num_steps
        self.steps = self.clips = 0
        self.start = self.end = self.waited = 0.0

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """A batch has come: how long did the host wait for it?"""
        if self.steps >= self.first:
            self.waited += self.clock() - self.end

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """A step is done."""
        self.steps += 1
        if self.steps > self.first:
            self.clips += clips_of(data_batch)
        if self.steps in (self.first, self.last):
            synchronize(self.device)
        self.end = self.clock()
        if self.steps == self.first:
            self.start = self.end
        if self.steps == self.last:
            raise EnoughSteps


def time_trainer(
    runner: Runner,
    device: torch.device,
    num_steps: int,
    warmup: int,
    clock: Clock = time.perf_counter,
) -> tuple[float, float]:
    """Train as ``tools/train.py`` does, and time it.

    Args:
        runner: It trains, with all hooks of its config.
        device: Where the model is.
        num_steps: How many steps to time; a whole number of bursts is.
        warmup: Steps before that; at least one burst.
        clock: Tells the time.

    Returns:
        Clips per second, and the share of the time in which the host waited
        for data, in [0, 1].

    Raises:
        UsageError: If too many videos are bad.
    """
    burst = runner.train_dataloader.num_workers
    timer = StepTimer(
        device,
        whole_bursts(num_steps, burst),
        whole_bursts(warmup, burst),
        clock,
    )
    runner.register_hook(timer)
    try:
        with explain_data_errors(runner):
            runner.train()
    except EnoughSteps:
        pass
    seconds = timer.end - timer.start
    return timer.clips / seconds, timer.waited / seconds


def measure(
    cfg: Config,
    setting: Setting,
    device: torch.device,
    sides: Sequence[str],
    num_steps: int,
    warmup: int,
    wanted: float | None = None,
    clock: Clock = time.perf_counter,
) -> Figures:
    """Measure one setting.

    Args:
        cfg: With this setting.
        setting: Repeats and workers.
        device: Where the model is.
        sides: Which of ``SIDES`` to measure.
        num_steps: Steps, or batches, to time.
        warmup: Those before them.
        wanted: Clips per second of a device that is to be fed.
        clock: Tells the time.

    Raises:
        UsageError: If there is too little data, or too much of it is bad.
    """
    where = f'R = {setting.repeats}, {setting.num_workers} workers'
    runner = build_runner(cfg)
    batch = first_batch(runner)
    found: dict[str, Any] = {}
    # First, while no process of a loader is at work; and it wakes the device.
    if 'model' in sides:
        say(f'{where}: model')
        found['model'] = time_model(
            runner, batch, device, num_steps, warmup, clock
        )
    if 'loader' in sides:
        say(f'{where}: loader')
        found['loader'] = time_loader(runner, num_steps, warmup, clock)
    if 'trainer' in sides:
        say(f'{where}: trainer')
        found['trainer'], found['waiting'] = time_trainer(
            runner, device, num_steps, warmup, clock
        )
    # Its processes end at once; in a garbage collection they take seconds.
    runner.train_dataloader._iterator = None
    del runner
    gc.collect()  # a runner is full of cycles
    if device.type == 'cuda':
        torch.cuda.empty_cache()
    return Figures(
        setting,
        clips_of(batch),
        usable_cpus(),
        shared_cpus=device.type == 'cpu',
        wanted=wanted,
        **found,
    )
