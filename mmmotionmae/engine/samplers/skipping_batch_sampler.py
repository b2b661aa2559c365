# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Sampler


class SkippingBatchSampler(Sampler):
    """Batches of another sampler, the first time without those that are done.

    What it skips is never loaded. Length and all other attributes are those
    of the other sampler.

    Attributes:
        done (int): How many batches the next iteration skips; 0 after it has
            begun.

    Args:
        sampler (Any): What gives the indices of each batch.
    """

    def __init__(self, sampler: Any) -> None:
        self.inner = sampler
        self.done = 0

    @classmethod
    def of(cls, loader: DataLoader) -> 'SkippingBatchSampler':
        """Put one around the batches of a loader that has not begun."""
        # Without batches, `batch_size=None`, a sample counts as one.
        name = 'sampler' if loader.batch_sampler is None else 'batch_sampler'
        current = getattr(loader, name)
        if not isinstance(current, cls):
            current = cls(current)
            # `DataLoader` lets nobody set it; its iterators read it afresh.
            vars(loader)[name] = current
        return current

    def __iter__(self) -> Iterator[Any]:
        """Iterate over what is left, and later over all.

        A generator: PyTorch makes two iterators for its processes, and takes
        batches of the second only.
        """
        done, self.done = self.done, 0
        yield from islice(iter(self.inner), done, None)

    def __len__(self) -> int:
        """Number of all batches."""
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name == 'inner':  # not there yet, as in a process of the loader
            raise AttributeError(name)
        return getattr(self.inner, name)
