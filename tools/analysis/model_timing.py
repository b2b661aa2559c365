# Copyright (c) MotionMAE contributors. All rights reserved.
"""Contenders timed in turn, and what the machine can do."""

import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from benchmark_clock import Clock, synchronize
from benchmark_rounds import in_turn, say
from model_setup import Setup, draw_batch
from model_steps import Contender, StageTimer

from mmmotionmae.models.utils.linear import linear

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
    rounds: dict[str, list[Round]] = {c.name: [] for c in contenders}
    warm_up = {c.name: 0.0 for c in contenders}
    timer = StageTimer(setup.device)
    for number in range(-WARM_UP, num_rounds):
        if number < 0:
            say(f'warming up, {-number} to go')
        else:
            say(f'round {number + 1} of {num_rounds}')
        batch = draw_batch(setup, seed=number + WARM_UP)
        for contender in in_turn(contenders, number):
            times = contender.step(batch, timer)
            if number < 0:
                warm_up[contender.name] += times['total'] / 1e3
            else:
                rounds[contender.name].append(times)
    return rounds, warm_up


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
