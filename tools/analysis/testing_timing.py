# Copyright (c) MotionMAE contributors. All rights reserved.
"""Dense tests compared and timed in turn."""

import time
from collections.abc import Sequence

import numpy as np
from benchmark_clips import Source
from benchmark_clock import Clock, milliseconds, now, synchronize
from benchmark_rounds import in_turn, say
from model_memory import peak_of_tensors, peak_on_gpu
from testing_report import Measured, Round
from testing_setup import Contender
from torch import Tensor

from mmmotionmae.apis import UsageError

TOLERANCE = 1e-4  # of a probability


def measure(
    title: str,
    contenders: Sequence[Contender],
    source: Source,
    num_rounds: int,
    with_memory: bool = True,
    clock: Clock = time.perf_counter,
) -> Measured:
    """Compare the scores of contenders, and time them in turn.

    Args:
        title: What is tested, for a reader.
        contenders: The first is stock MMAction2.
        source: The videos; a round is one of them.
        num_rounds: Rounds that count; there is one before, which warms up.
        with_memory: Whether memory is measured, in that one.
        clock: Tells the time where there is no GPU.

    Raises:
        UsageError: If scores are not those of stock, or a video is bad.
    """
    rounds: dict[str, list[Round]] = {c.name: [] for c in contenders}
    largest = dict.fromkeys(rounds, 0.0)
    memory: dict[str, int] = {}
    for number in range(-1, num_rounds):
        say('comparing the scores' if number < 0 else f'round {number + 1}')
        index = max(number, 0) % len(source.paths)
        scores = {}
        for contender in in_turn(contenders, number):
            name = contender.name
            if number < 0 and with_memory:
                memory[name], scores[name] = _memory(contender, index)
            else:
                seconds, scores[name] = _time(contender, index, clock)
                if number >= 0:
                    rounds[name].append(seconds)
        video = source.paths[index].resolve().name
        differences = compare(contenders, scores, video)
        # Not max(), which would lose NaN.
        largest = {
            n: float(np.maximum(largest[n], differences[n])) for n in largest
        }
    return Measured(title, contenders[0].name, rounds, largest, memory)


def compare(
    contenders: Sequence[Contender], scores: dict[str, Tensor], video: str
) -> dict[str, float]:
    """The largest difference of a probability from that of stock.

    Args:
        contenders: The first is stock MMAction2.
        scores: For each its probabilities (classes,).
        video: Name of what they are of.

    Raises:
        UsageError: If one is larger than :data:`TOLERANCE`, but for those in
            mixed precision.
    """
    stock = contenders[0].name
    found = {}
    for contender in contenders:
        name = contender.name
        difference = float((scores[name] - scores[stock]).abs().max())
        # NaN is not within the tolerance, either.
        if contender.dtype is None and not difference <= TOLERANCE:
            raise UsageError(
                f'{video!r}: the scores of {name!r} are not those of '
                f'{stock!r}: they differ by up to {difference:.2g}, more than '
                f'{TOLERANCE:g}. Their times cannot be compared.'
            )
        found[name] = difference
    return found


def _time(
    contender: Contender, index: int, clock: Clock
) -> tuple[Round, Tensor]:
    """Seconds of a video, and its probabilities."""
    start = now(contender.device, clock)
    batch = contender.load(index)
    loaded = now(contender.device, clock)
    scores = contender.scores(batch)
    end = now(contender.device, clock)
    synchronize(contender.device)
    data, model = milliseconds(start, loaded), milliseconds(loaded, end)
    return dict(data=data / 1e3, model=model / 1e3), scores


def _memory(contender: Contender, index: int) -> tuple[int, Tensor]:
    """Bytes that a test step adds at its peak, and its probabilities."""
    batch = contender.load(index)
    found: list[Tensor] = []

    def step() -> None:
        found[:] = [contender.scores(batch)]

    if contender.device.type == 'cpu':
        return peak_of_tensors(step), found[0]
    step()  # libraries take their workspace
    return peak_on_gpu(step), found[0]
