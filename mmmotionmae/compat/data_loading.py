# Copyright (c) MotionMAE contributors. All rights reserved.
"""Data loaders, and the wrappers around data sets."""

from collections.abc import Callable, Mapping
from functools import wraps
from multiprocessing.queues import Queue
from typing import TYPE_CHECKING, Any

from torch._utils import ExceptionWrapper
from torch.utils.data import get_worker_info

from ..utils.imports import lazy_module, once

if TYPE_CHECKING:
    from ..utils import seeding
else:  # it may be waiting for PyTorch
    seeding = lazy_module('mmmotionmae.utils.seeding')

# What PyTorch accepts for a loader with processes of its own only.
_FOR_WORKERS = {
    'multiprocessing_context',
    'persistent_workers',
    'prefetch_factor',
    'timeout',
}


@once
def keep_seeds_in_wrappers() -> None:
    """Wrappers hand on a plain number in place of a :class:`SampleIndex`.

    They calculate with the index, or look another one up; the seed of the
    sample is then lost. A sample keeps that of its index in the wrapper, so
    that each copy in a ``RepeatDataset`` has draws of its own.

    Remove when: MMEngine's wrappers know indices with a seed.
    """
    from mmengine.dataset import (
        ClassBalancedDataset,
        ConcatDataset,
        RepeatDataset,
    )

    def seeded(find: Callable) -> Callable:

        @wraps(find)
        def wrapper(self: Any, idx: int) -> Any:
            found = find(self, idx)
            if isinstance(found, tuple):
                return found[0], seeding.with_seed_of(idx, found[1])
            return seeding.with_seed_of(idx, found)

        return wrapper

    for cls in (ConcatDataset, RepeatDataset, ClassBalancedDataset):
        cls._get_ori_dataset_idx = seeded(cls._get_ori_dataset_idx)


@once
def balance_within_wrappers() -> None:
    """``ClassBalancedDataset`` cannot be put around other wrappers.

    It asks for ``get_cat_ids``, which ``ConcatDataset`` and ``RepeatDataset``
    do not hand on.

    Remove when: these two have ``get_cat_ids``.
    """
    from mmengine.dataset import ConcatDataset, RepeatDataset

    def of_parts(self: Any, idx: int) -> list[int]:
        part, index = self._get_ori_dataset_idx(idx)
        return self.datasets[part].get_cat_ids(index)

    def of_inner(self: Any, idx: int) -> list[int]:
        return self.dataset.get_cat_ids(self._get_ori_dataset_idx(idx))

    for cls, method in ((ConcatDataset, of_parts), (RepeatDataset, of_inner)):
        if not hasattr(cls, 'get_cat_ids'):
            cls.get_cat_ids = method


@once
def report_what_cannot_be_handed_over() -> None:
    """A training waits for ever for a batch that its process cannot send.

    A process of the loader sends its batches in a thread. If that fails, as
    where shared memory is full, or a sample cannot be pickled, Python prints
    the error and drops the batch. Here the error takes its place.

    Remove when: PyTorch's loader hears of such errors.
    """
    queue: Any = Queue
    original = queue._on_queue_feeder_error

    def on_error(self: Any, error: Exception, sent: Any) -> None:
        worker = get_worker_info()
        if worker is None or not (isinstance(sent, tuple) and len(sent) == 2):
            original(error, sent)
            return
        where = f'in DataLoader worker process {worker.id}'
        self.put((sent[0], ExceptionWrapper(where=where)))

    queue._on_queue_feeder_error = on_error


@once
def load_without_processes() -> None:
    """``num_workers=0`` alone is an error if a config is meant for processes.

    PyTorch then refuses ``persistent_workers``, ``prefetch_factor``,
    ``timeout`` and ``multiprocessing_context``; here they are left out.

    Remove when: MMEngine's runners leave them out.
    """
    from mmengine.runner import FlexibleRunner, Runner

    def lenient(build: Callable) -> Callable:

        @wraps(build)
        def wrapper(dataloader: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(dataloader, Mapping):
                if not dataloader.get('num_workers'):
                    dataloader = {
                        name: value
                        for name, value in dataloader.items()
                        if name not in _FOR_WORKERS
                    }
            return build(dataloader, *args, **kwargs)

        return wrapper

    for cls in (Runner, FlexibleRunner):
        cls.build_dataloader = staticmethod(lenient(cls.build_dataloader))
