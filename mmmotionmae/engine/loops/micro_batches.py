# Copyright (c) MotionMAE contributors. All rights reserved.
"""Steps on a batch that is too large to be computed at once."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor

from ...utils.errors import UsageError
from ..resuming.schedules import wrappers_of


def split_batch(batch: Any, parts: int) -> list[Any]:
    """Split a batch of the loader into parts of the same size.

    Args:
        batch: Mapping, list or tensor with a sample a row; mappings hold
            such lists and tensors.
        parts: How many.

    Returns:
        The parts, in order.

    Raises:
        UsageError: If the samples cannot be shared out evenly.
    """
    if isinstance(batch, Mapping):
        pieces = {
            key: split_batch(value, parts) for key, value in batch.items()
        }
        return [
            {key: values[i] for key, values in pieces.items()}
            for i in range(parts)
        ]
    size, rest = divmod(len(batch), parts)
    if rest:
        raise UsageError(
            f'A batch of {len(batch)} samples cannot be computed in {parts} '
            'equal parts: train_cfg.micro_batches must divide it '
            '(train_dataloader.drop_last=True leaves out the rest of an '
            'epoch).'
        )
    return [batch[i * size : (i + 1) * size] for i in range(parts)]


def train_step(runner: Runner, batch: Any, parts: int) -> dict[str, Any]:
    """Take one step of the optimiser on a batch, in so many parts.

    Args:
        runner: Its optimiser wrapper accumulates ``parts`` batches, or a
            multiple of that.
        batch: See :func:`split_batch`.
        parts: Of the batch; each is computed by itself.

    Returns:
        What is logged, the mean of the parts.
    """
    outputs = [
        runner.model.train_step(part, optim_wrapper=runner.optim_wrapper)
        for part in split_batch(batch, parts)
    ]
    return {
        key: torch.stack([out[key] for out in outputs]).mean(0)
        if isinstance(value, Tensor)
        else value
        for key, value in outputs[-1].items()
    }


def batches_of_step(runner: Runner, parts: int) -> int:
    """Batches of the loader that a step of the optimiser takes.

    Args:
        runner: Of a training.
        parts: Of each batch.

    Raises:
        UsageError: If a step would end inside a batch.
    """
    counts = max(
        getattr(wrapper, '_accumulative_counts', 1)
        for wrapper in wrappers_of(runner).values()
    )
    if counts % parts:
        raise UsageError(
            f'train_cfg.micro_batches={parts} needs optim_wrapper.'
            f'accumulative_counts={parts}, or a multiple of it; it is '
            f'{counts}.'
        )
    return counts // parts
