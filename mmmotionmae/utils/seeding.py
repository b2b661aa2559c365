# Copyright (c) MotionMAE contributors. All rights reserved.
"""Seeds of random draws."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class SampleIndex(int):
    """The index of a sample, and the seed of its random draws.

    An ``int`` in every respect, so that any dataset takes it.

    Attributes:
        seed (int): In [0, 2**32).
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> 'SampleIndex':
        """Attach the seed."""
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return SampleIndex, (int(self), self.seed)


def with_seed_of(index: int, other: int) -> int:
    """Another index, with the seed of one if that has any."""
    seed = getattr(index, 'seed', None)
    return other if seed is None else SampleIndex(other, seed)


def make_seed(*words: int) -> int:
    """Seed in [0, 2**32) that depends on all words, each in [0, 2**32)."""
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def seed_generators(seed: int) -> None:
    """Seed ``random``, NumPy and torch on the CPU.

    Not by ``torch.manual_seed``, which also keeps a stack trace for each
    device that is not in use: three quarters of a small clip's time.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Put the states of ``random``, NumPy and torch back at the end.

    Those of torch on the CPU and on all CUDA devices that are in use.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpus = (
        torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    )
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)
