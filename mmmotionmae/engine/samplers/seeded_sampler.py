# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmaction.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler


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


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler`` with a seed for every sample.

    The seed depends on the sampler's seed, the epoch and the index, see
    :class:`SeedSample`. Arguments as in ``DefaultSampler``.
    """

    def __iter__(self) -> Iterator[SampleIndex]:
        """Iterate over the indices of this rank."""
        for index in super().__iter__():
            words = (self.seed % 2**32, self.epoch, index)
            seed = np.random.SeedSequence(words).generate_state(1)[0]
            yield SampleIndex(index, int(seed))
