# Copyright (c) MotionMAE contributors. All rights reserved.
"""Parts of a training step timed on the device that they run on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from benchmark_clock import Clock, milliseconds, now, synchronize
from torch import Tensor, nn


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
