# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator, Sequence, Sized

from mmaction.registry import DATA_SAMPLERS
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler


@DATA_SAMPLERS.register_module()
class RemainingSampler(Sampler):
    """Only the samples that are left to do, shared out among the processes.

    In ascending order, each on one process only, so that some processes may
    have one sample more than others.

    Attributes:
        indices (Sequence[int]): What is left to do; all samples at first.

    Args:
        dataset (Sized): The data set.
        seed (int, optional): Not used; MMEngine gives one to every sampler.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.indices: Sequence[int] = range(len(dataset))

    @property
    def share(self) -> Sequence[int]:
        """Indices that are left to do for this process."""
        return self.indices[self.rank :: self.world_size]

    def __iter__(self) -> Iterator[int]:
        """Iterate over the samples of this process."""
        return iter(self.share)

    def __len__(self) -> int:
        """Number of samples of this process."""
        return len(self.share)
