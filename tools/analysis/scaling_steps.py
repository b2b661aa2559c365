# Copyright (c) MotionMAE contributors. All rights reserved.
"""Training steps on clips of several sizes, timed part by part."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from benchmark_clock import Clock, synchronize
from benchmark_rounds import in_turn, say
from mmaction.registry import MODELS
from model_configs import our_config
from model_setup import Setup, draw_batch
from model_steps import fused_adamw
from scaling_clock import Marks, mark_parts, timed_attention
from scaling_points import MODEL, Case
from torch import nn

from mmmotionmae.apis import UsageError

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
    for number in range(num_rounds):
        say(f'round {number + 1} of {num_rounds}')
        for case in in_turn(cases, number):
            times[case].append(steps.time(case))
    return times
