# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator
from typing import Any

from mmaction.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler

from ...utils.errors import UsageError
from ...utils.seeding import SampleIndex, make_seed


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler`` with a seed for every sample.

    The seed depends on the sampler's seed, the epoch and the index, see
    :class:`SeedSample`.

    Args:
        *args: As in ``DefaultSampler``.
        samples_of_step (int, optional): Batch of all processes together. An
            epoch is ``len(dataset) // samples_of_step`` of these, and what
            each is made of, on however many processes. Without it, processes
            that cannot share the data set out evenly get a sample twice.
        **kwargs: As in ``DefaultSampler``.

    Raises:
        UsageError: If the processes cannot share ``samples_of_step`` evenly.
    """

    def __init__(
        self, *args: Any, samples_of_step: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if samples_of_step is None:
            return
        share, rest = divmod(samples_of_step, self.world_size)
        if rest:
            raise UsageError(
                f'{self.world_size} processes cannot share '
                f'samples_of_step={samples_of_step} evenly.'
            )
        self.num_samples = len(self.dataset) // samples_of_step * share
        self.total_size = self.num_samples * self.world_size

    def __iter__(self) -> Iterator[SampleIndex]:
        """Iterate over the indices of this rank."""
        for index in super().__iter__():
            seed = make_seed(self.seed % 2**32, self.epoch, index)
            yield SampleIndex(index, seed)
