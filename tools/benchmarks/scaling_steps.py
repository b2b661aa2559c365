# Copyright (c) MotionMAE contributors. All rights reserved.
"""Training steps on clips of several sizes, timed part by part."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor, nn

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.cost.flops import Flops

from .common import Clock, milliseconds, now, rounds, say, synchronize
from .networks import Setup, draw_batch, our_config, our_flops
from .steps import fused_adamw

MODEL = 'shared'  # of `networks.OURS`


@dataclass(frozen=True)
class Point:
    """A size of clips.

    Attributes:
        num_frames: Frames of a clip.
        img_size: Height and width of a frame, in pixels.
    """

    num_frames: int
    img_size: int

    def __str__(self) -> str:
        return f'{self.num_frames}x{self.img_size}'

    def of(self, setup: Setup) -> Setup:
        """A setup at this point."""
        return replace(
            setup, num_frames=self.num_frames, img_size=self.img_size
        )

    def tokens(self, setup: Setup) -> tuple[int, int]:
        """L, and how many of them tube masking leaves visible.

        Raises:
            ValueError: If clips do not divide evenly into tubelets.
        """
        return self.of(setup).tokens

    def flops(self, setup: Setup) -> Flops:
        """FLOPs of a clip."""
        return our_flops(MODEL, self.of(setup))

    def step_flops(self, setup: Setup) -> int:
        """FLOPs of a training step."""
        return setup.batch_size * self.flops(setup).training


@dataclass(frozen=True)
class Case:
    """What is measured: a size of clips, with or without checkpointing."""

    point: Point
    with_cp: bool = False

    def __str__(self) -> str:
        return f'{self.point}{", with_cp" if self.with_cp else ""}'


class Marks:
    """Points in time on a device, by name.

    Attributes:
        device: The device.
        clock: Tells the time where there is no GPU.
        spans: Names of marks between which time is added up.
    """

    def __init__(
        self, device: torch.device, clock: Clock = time.perf_counter
    ) -> None:
        self.device = device
        self.clock = clock
        self.spans: list[tuple[str, str]] = []
        self._marks: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        """Whether this point has been reached."""
        return name in self._marks

    def mark(self, name: str) -> None:
        """Remember that this point has been reached; again replaces it."""
        self._marks[name] = now(self.device, self.clock)

    def between(self, first: str, second: str) -> float:
        """Milliseconds from one mark to another."""
        synchronize(self.device)
        return milliseconds(self._marks[first], self._marks[second])

    def in_spans(self) -> float:
        """Milliseconds within all spans that were reached."""
        return sum(
            self.between(*span) for span in self.spans if self.has(span[1])
        )


def mark_parts(model: Any, marks: Marks) -> list[Any]:
    """Mark where encoder and decoder begin and end, backward, too.

    Gradients arrive in the order opposite to the forward pass: that of the
    decoded tokens once the heads are done, that of the latent once the
    decoder is.
    """

    def on_latent(module: nn.Module, inputs: Any, latent: Tensor) -> None:
        marks.mark('latent')
        latent.register_hook(_marking(marks, 'latent_grad'))

    def on_tokens(module: nn.Module, inputs: Any, tokens: dict) -> None:
        marks.mark('tokens')
        for tensor in {id(t): t for t in tokens.values()}.values():
            tensor.register_hook(_marking(marks, 'tokens_grad'))

    return [
        model.backbone.register_forward_pre_hook(_marking(marks, 'clip')),
        model.backbone.register_forward_hook(on_latent),
        model.neck.register_forward_hook(on_tokens),
    ]


def _marking(
    marks: Marks, name: str, once: bool = False
) -> Callable[..., None]:
    def hook(*args: Any) -> None:
        if not (once and marks.has(name)):
            marks.mark(name)

    return hook


@contextmanager
def timed_attention(marks: Marks) -> Iterator[None]:
    """Mark where each attention begins and ends, backward, too.

    Projections are not part of it. What activation checkpointing computes
    again is.

    Args:
        marks: Its ``spans`` grow by names of marks, some of which are never
            reached.
    """
    attend = F.scaled_dot_product_attention

    def timed(q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> Tensor:
        number = len(marks.spans)
        names = [f'attention{number}{end}' for end in ('<', '>', '<<', '>>')]
        marks.spans += [(names[0], names[1]), (names[2], names[3])]
        marks.mark(names[0])
        out = attend(q, k, v, **kwargs)
        marks.mark(names[1])
        if out.requires_grad:
            out.register_hook(_marking(marks, names[2]))
            # One operation gives all three gradients; the first to arrive
            # tells that it is done.
            for tensor in (q, k, v):
                tensor.register_hook(_marking(marks, names[3], once=True))
        return out

    with mock.patch.object(F, 'scaled_dot_product_attention', timed):
        yield


PARTS = ('encoder', 'decoder', 'attention', 'optimizer', 'rest')
Times = dict[str, float]  # milliseconds, by part and 'total'


class Steps:
    """Training steps of one network on clips of several sizes.

    All cases have the same parameters and one optimiser, so that memory does
    not grow with their number.

    Attributes:
        models: The network of each case.
        batches: What it is trained on, by size of clips.
        optimizer: Of all of them.

    Args:
        setup: Network, batch size and device; the cases have clips of other
            sizes.
        cases: What is measured.
        amp: Whether to train in mixed precision (bfloat16).
        clock: Tells the time where there is no GPU.
    """

    def __init__(
        self,
        setup: Setup,
        cases: Sequence[Case],
        amp: bool = False,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.batch_size = setup.batch_size
        self.device = torch.device(setup.device)
        self.amp = amp
        self.clock = clock
        self.models: dict[Case, Any] = {}
        self.batches = {
            point: draw_batch(point.of(setup), seed=0)
            for point in dict.fromkeys(case.point for case in cases)
        }
        parameters: dict[str, nn.Parameter] = {}
        for case in cases:
            model = MODELS.build(
                our_config(MODEL, case.point.of(setup), case.with_cp)
            )
            if parameters:
                # Parameters do not depend on the size of clips; the tables
                # of positions are no parameters.
                model.load_state_dict(parameters, strict=False, assign=True)
            self.models[case] = model.to(self.device).train()
            parameters = parameters or dict(model.named_parameters())
        self.optimizer = fused_adamw(parameters.values())

    def time(self, case: Case) -> Times:
        """Time one step.

        Returns:
            Milliseconds of ``'encoder'`` and ``'decoder'``, forward and
            backward; of ``'attention'``, which is within these two; of the
            ``'optimizer'``; of the ``'rest'`` (input, targets, heads, losses,
            scores); and ``'total'``.

        Raises:
            UsageError: If it does not fit into the memory of the device.
        """
        try:
            if self.device.type == 'cuda':
                self._step(case)  # memory is where this size needs it
            return self._step(case)
        except torch.OutOfMemoryError as error:
            raise UsageError(
                f'{case} does not fit into memory with {self.batch_size} '
                'clips in a batch: lower --batch-size, or leave it out.'
            ) from error

    def _step(self, case: Case) -> Times:
        model = self.models[case]
        batch = self.batches[case.point].data
        marks = Marks(self.device, self.clock)
        handles = mark_parts(model, marks)
        synchronize(self.device)
        marks.mark('start')
        with timed_attention(marks):
            with self._autocast():
                data = model.data_preprocessor(batch, True)
                loss, _ = model.parse_losses(model(**data, mode='loss'))
            loss.backward()
        marks.mark('backward')
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.mark('end')
        for handle in handles:
            handle.remove()
        times = dict(
            encoder=marks.between('clip', 'latent')
            + marks.between('latent_grad', 'backward'),
            decoder=marks.between('latent', 'tokens')
            + marks.between('tokens_grad', 'latent_grad'),
            optimizer=marks.between('backward', 'end'),
        )
        total = marks.between('start', 'end')
        rest = total - sum(times.values())
        return dict(times, rest=rest, total=total, attention=marks.in_spans())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.amp
        )


def measure(
    steps: Steps, cases: Sequence[Case], num_rounds: int
) -> dict[Case, list[Times]]:
    """Time every case once in each round, in turn."""
    times: dict[Case, list[Times]] = {case: [] for case in cases}
    for case in cases:
        say(f'warming up: {case}')
        steps.time(case)
    for _, order in rounds(cases, num_rounds):
        for case in order:
            times[case].append(steps.time(case))
    return times
