# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator

from mmaction.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler

from ...utils.seeding import SampleIndex, make_seed


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler`` with a seed for every sample.

    The seed depends on the sampler's seed, the epoch and the index, see
    :class:`SeedSample`. Arguments as in ``DefaultSampler``.
    """

    def __iter__(self) -> Iterator[SampleIndex]:
        """Iterate over the indices of this rank."""
        for index in super().__iter__():
            seed = make_seed(self.seed % 2**32, self.epoch, index)
            yield SampleIndex(index, seed)
