# Copyright (c) MotionMAE contributors. All rights reserved.
"""Tensors of which each process holds a part (``DTensor``)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import (
    compute_local_shape_and_global_offset,
)


def whole(value: Any) -> Any:
    """Gather a tensor that is spread over processes.

    All processes that hold a part of it call this.

    Args:
        value: Anything.

    Returns:
        The whole tensor, on the device of its parts; what is no such tensor
        comes back as it is.
    """
    return value.full_tensor() if isinstance(value, DTensor) else value


def holds_parts(tensors: Mapping[str, Any]) -> bool:
    """Tell whether any of these is spread over processes."""
    return any(isinstance(value, DTensor) for value in tensors.values())


def part_like(like: DTensor, value: Tensor) -> DTensor:
    """Take this process's part of a tensor, without communication.

    Args:
        like: A tensor of the same shape that is spread over processes.
        value: The whole, the same on every process, on any device.

    Returns:
        The values of ``value``, spread as ``like`` is, in the dtype of
        ``value``.
    """
    shape, offset = compute_local_shape_and_global_offset(
        like.shape, like.device_mesh, like.placements
    )
    part = value
    for axis, (start, length) in enumerate(zip(offset, shape, strict=True)):
        # An empty part may be said to begin behind the end.
        part = part.narrow(axis, min(start, value.shape[axis]), length)
    # Copied: a view would keep the whole in memory.
    local = part.detach().clone().to(like.to_local().device)
    return like_local(like, local)


def like_local(like: DTensor, local: Tensor) -> DTensor:
    """Spread a tensor as another is, given the part of this process."""
    return DTensor.from_local(
        local,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Let methods of a model be called that are not its ``forward``.

    What ``fully_shard`` has spread is gathered for ``forward`` alone; blocks
    gather themselves whenever they are called.

    Args:
        model: Any; all processes that have parts of it do the same.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    model._get_fsdp_state()._lazy_init()  # else the first block is the root
    model.unshard()
    try:
        yield
    finally:
        model.reshard()
