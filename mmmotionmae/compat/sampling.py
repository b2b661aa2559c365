# Copyright (c) MotionMAE contributors. All rights reserved.
"""Samplers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler

from ..utils.patching import once
from ..utils.permutations import Numbers, permutation

_PART = 4096


@once
def sample_without_lists() -> None:
    """Samplers make a Python list of all samples before they give the first.

    On every process, and for every epoch: seconds, and 600 MB for ten million
    samples. Here they are given in the same order, from arrays.

    Remove when: MMEngine's samplers make no lists.
    """

    def of_epoch(self: Any) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        start = generator.get_state()
        size, seen = len(self.dataset), 0
        while seen < self.total_size:  # more than once to fill all processes
            generator.set_state(start)
            for part in _order(size, self.shuffle, generator):
                wanted = part[: self.total_size - seen]
                own = wanted[(self.rank - seen) % self.world_size :]
                yield from own[:: self.world_size].tolist()
                seen += len(wanted)

    def without_end(self: Any) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        while True:
            for part in _order(self.size, self.shuffle, generator):
                yield from part.tolist()

    DefaultSampler.__iter__ = of_epoch
    InfiniteSampler._infinite_indices = without_end


def _order(
    size: int, shuffle: bool, generator: torch.Generator
) -> Iterator[Numbers]:
    """All samples, part by part."""
    if shuffle:
        yield from permutation(size, generator)
        return
    for start in range(0, size, _PART):
        yield np.arange(start, min(start + _PART, size))
