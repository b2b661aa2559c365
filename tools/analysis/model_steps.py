# Copyright (c) MotionMAE contributors. All rights reserved.
"""A step of a contender, timed by stages."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from benchmark_clock import Clock, milliseconds, now, synchronize
from model_flops import Flops
from model_setup import Batch, Setup
from torch import Tensor, nn

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
        flops: Of its forward pass of one clip.
        optimizer: None: the step is a forward pass without gradients.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        setup: Setup,
        flops: Flops,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        self.name = name
        self.model = model
        self.setup = setup
        self.flops = flops
        self.optimizer = optimizer
        # What is called; `torch.compile` puts its own in its place.
        self.network = model

    @property
    def step_flops(self) -> int:
        """FLOPs of one step."""
        clip = self.flops.training if self.optimizer else self.flops.forward
        return self.setup.batch_size * clip

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
