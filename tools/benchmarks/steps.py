# Copyright (c) MotionMAE contributors. All rights reserved.
"""Steps of contenders, timed by stages and in turn."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmotionmae.apis.cost.flops import count
from mmmotionmae.models.utils.linear import linear

from .common import Clock, milliseconds, now, rounds, synchronize
from .networks import Batch, Setup, draw_batch

STAGES = ('forward', 'backward', 'optimiser')
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class StageTimer:
    """Milliseconds of stages; on a GPU those that it was at work.

    Args:
        device: ``'cpu'`` or ``'cuda'``.
        clock: Tells the time where there is no GPU.
    """

    def __init__(self, device: str, clock: Clock = time.perf_counter) -> None:
        self.device = torch.device(device)
        self.clock = clock
        self._marks: list[tuple[str, Any]] = []

    def start(self) -> None:
        """Wait for what is still running, and start."""
        synchronize(self.device)
        self._marks = [('', now(self.device, self.clock))]

    def mark(self, stage: str) -> None:
        """End a stage. What happened since the last mark belongs to it."""
        self._marks.append((stage, now(self.device, self.clock)))

    def stop(self) -> dict[str, float]:
        """Milliseconds of each stage, and ``'total'``."""
        synchronize(self.device)
        times: dict[str, float] = {}
        for (_, start), (stage, end) in zip(
            self._marks, self._marks[1:], strict=False
        ):
            times[stage] = times.get(stage, 0) + milliseconds(start, end)
        return dict(times, total=sum(times.values()))


class Contender(ABC):
    """What takes a step in every round.

    Args:
        name: For the tables.
        model: The network, an ``nn.Module``.
        setup: What all have in common.
        optimizer: None: the step is a forward pass without gradients.
        flops: Counts its forward pass of one clip. Defaults to running that.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        setup: Setup,
        optimizer: torch.optim.Optimizer | None,
        flops: Callable[[], int] | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.setup = setup
        self.optimizer = optimizer
        self._flops = flops
        # What is called; `torch.compile` puts its own in its place.
        self.network = model

    @property
    def step_flops(self) -> int:
        """FLOPs of one step; the backward pass is twice the forward pass."""
        passes = 3 if self.optimizer else 1
        return passes * self.setup.batch_size * self.flops

    @cached_property
    def flops(self) -> int:
        """FLOPs of the forward pass of one clip."""
        if self._flops is not None:
            return self._flops()
        batch = draw_batch(replace(self.setup, batch_size=1), seed=0)
        compiled, self.network = self.network, self.model
        trained = [p for p in self.model.parameters() if p.requires_grad]
        # Without a graph, whose attention matrices would fill the memory;
        # under `no_grad` modules that get a parameter cannot be counted.
        for parameter in trained:
            parameter.requires_grad_(False)
        work = count(self.forward, batch)
        for parameter in trained:
            parameter.requires_grad_(True)
        self.network = compiled
        return work.total

    def compile(self) -> None:
        """Compile the network; it happens in the first step."""
        self.name = f'{self.name}, compiled'
        self.network = torch.compile(self.model)

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """From uint8 frames to the loss, or to features."""

    def backward(self, loss: Tensor) -> None:
        """Compute gradients."""
        loss.backward()

    def update(self) -> None:
        """Change the weights."""
        if self.optimizer is not None:
            self.optimizer.step()

    def step(self, batch: Batch, timer: StageTimer) -> dict[str, float]:
        """Take a step.

        Returns:
            Milliseconds of the stages, and ``'total'``.
        """
        with torch.set_grad_enabled(self.optimizer is not None):
            timer.start()
            loss = self.forward(batch)
            timer.mark('forward')
            if self.optimizer is not None:
                self.optimizer.zero_grad()
                timer.mark('optimiser')
                self.backward(loss)
                timer.mark('backward')
                self.update()
                timer.mark('optimiser')
            return timer.stop()

    def autocast(self, dtype: torch.dtype = torch.bfloat16) -> torch.autocast:
        """Mixed precision on a GPU; on a CPU all is float32."""
        device = self.setup.device
        return torch.autocast(device, dtype, enabled=device == 'cuda')


def fused_adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW as PyTorch does it quickest; it moves the weights little."""
    return torch.optim.AdamW(
        parameters, lr=1e-5, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )


def normalise(frames: Tensor) -> Tensor:
    """Frames as networks take them.

    Args:
        frames: (B, 3, T, H, W), uint8.

    Returns:
        The same shape, float32, with ImageNet's mean and deviation.
    """
    mean = frames.new_tensor(MEAN, dtype=torch.float32)
    std = frames.new_tensor(STD, dtype=torch.float32)
    shape = (3, 1, 1, 1)
    return (frames / 255 - mean.view(shape)) / std.view(shape)


Round = dict[str, float]  # milliseconds, by stage
WARM_UP = 2  # rounds
# Dense bfloat16 with tensor cores, in TFLOP/s, as the vendor states it.
DATASHEET = {'H100': 989.0, 'H200': 989.0, 'A100': 312.0}


def time_in_turn(
    contenders: Sequence[Contender], setup: Setup, num_rounds: int
) -> tuple[dict[str, list[Round]], dict[str, float]]:
    """Let contenders take steps in turn.

    Args:
        contenders: In each round each takes one step on the same input.
        setup: What they have in common.
        num_rounds: Rounds that count; there are more to warm up.

    Returns:
        For each contender its rounds, and its seconds of warming up.
    """
    found: dict[str, list[Round]] = {c.name: [] for c in contenders}
    warm_up = {c.name: 0.0 for c in contenders}
    timer = StageTimer(setup.device)
    for number, order in rounds(contenders, num_rounds, WARM_UP):
        batch = draw_batch(setup, seed=number + WARM_UP)
        for contender in order:
            times = contender.step(batch, timer)
            if number < 0:
                warm_up[contender.name] += times['total'] / 1e3
            else:
                found[contender.name].append(times)
    return found, warm_up


def peak_tflops(
    device: str, clock: Clock = time.perf_counter
) -> tuple[float, str]:
    """What the machine can do at best.

    Args:
        device: ``'cpu'`` (float32) or ``'cuda'`` (bfloat16).
        clock: Tells the time.

    Returns:
        TFLOP per second, and where the figure comes from.
    """
    if device == 'cuda':
        name = torch.cuda.get_device_name()
        for part, peak in DATASHEET.items():
            if part in name:
                return peak, f'data sheet, {part}, dense bfloat16'
        best = _best(device, 8192, torch.bfloat16, clock)
        return best, 'measured, bfloat16'
    return _best(device, 2048, torch.float32, clock), 'measured, float32'


def _best(device: str, size: int, dtype: torch.dtype, clock: Clock) -> float:
    """TFLOP/s of the quickest of some square matrix products.

    On a CPU there are two libraries that PyTorch may take them from.
    """
    x = torch.rand(size, size, device=device).to(dtype)
    best = float('inf')
    for product in (F.linear, linear):
        for _ in range(6):  # the first warms up
            synchronize(x.device)
            start = clock()
            product(x, x)
            synchronize(x.device)
            best = min(best, clock() - start)
    return 2 * size**3 / best / 1e12
