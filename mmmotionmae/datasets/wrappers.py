# Copyright (c) MotionMAE contributors. All rights reserved.
"""Data sets within wrappers such as MMEngine's ``RepeatDataset``.

Both objects and their configs: a wrapper has ``dataset``, or several
``datasets``.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from mmaction.registry import DATASETS
from mmengine.dataset import ConcatDataset, RepeatDataset

from ..utils.errors import UsageError


def single_datasets(dataset: Any) -> Iterator[Any]:
    """The data sets within wrappers, in their order.

    Args:
        dataset: A data set, or its config; wrapped, concatenated or neither.
    """
    parts = _parts(dataset)
    if parts is None:
        yield dataset
        return
    for part in parts:
        yield from single_datasets(part)


def transforms_of(dataset: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Configs of the transforms, of one part after the other.

    Args:
        dataset: Config of a data set, also wrapped.
    """
    for part in single_datasets(dataset):
        yield from part.get('pipeline', ())


def clips_per_video(dataset: dict[str, Any]) -> int:
    """Clips made of each video that is drawn, ``num_repeats``.

    Args:
        dataset: Config of a data set, also wrapped.

    Raises:
        UsageError: If the parts of it make different numbers, so that a batch
            would have no fixed size.
    """
    numbers = {_num_repeats(part) for part in single_datasets(dataset)}
    if len(numbers) > 1:
        listed = ', '.join(map(str, sorted(numbers)))
        raise UsageError(
            f'The parts of the training set have different num_repeats '
            f'({listed}), so that its batches have no fixed number of clips: '
            'give all of them the same.'
        )
    return numbers.pop() if numbers else 1


def passes_per_epoch(dataset: dict[str, Any]) -> int | None:
    """Number of times that an epoch goes through the videos.

    Args:
        dataset: Config of a data set, also wrapped.

    Returns:
        None if that is not the same for all of them, or depends on the
        labels, as in ``ClassBalancedDataset``.
    """
    parts = _parts(dataset)
    if parts is None:
        return 1
    passes = {passes_per_epoch(part) for part in parts}
    inner = passes.pop() if len(passes) == 1 else None
    known = _class_of(dataset) in (ConcatDataset, RepeatDataset)
    if inner is None or not known:
        return None
    return inner * dataset.get('times', 1)


def _parts(dataset: Any) -> list[Any] | None:
    """The data sets in a wrapper; None if it is none."""

    def get(name: str) -> Any:
        if isinstance(dataset, dict):
            return dataset.get(name)
        return getattr(dataset, name, None)

    if get('datasets') is not None:
        return list(get('datasets'))
    return None if get('dataset') is None else [get('dataset')]


def _num_repeats(dataset: dict[str, Any]) -> int:
    """That of a config, or the default of its class."""
    cls = _class_of(dataset)
    parameters = inspect.signature(cls).parameters if cls else {}
    if 'num_repeats' not in parameters:
        return dataset.get('num_repeats', 1)
    return dataset.get('num_repeats', parameters['num_repeats'].default)


def _class_of(dataset: dict[str, Any]) -> type | None:
    kind = dataset.get('type')
    return DATASETS.get(kind) if isinstance(kind, str) else kind
