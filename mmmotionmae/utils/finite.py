# Copyright (c) MotionMAE contributors. All rights reserved.
"""NaN and infinity in tensors."""

from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor


def find_not_finite(
    tensors: Mapping[str, Any], may_be_infinite: Container[str] = ()
) -> list[str]:
    """Names of the tensors that hold NaN or infinity.

    Each tensor is read once, where it is, and nothing of its size is made.
    The host waits once for each device.

    Args:
        tensors: Of any dtype; what is no tensor of floating-point numbers is
            passed over. Of a tensor that is spread over processes, the part
            of this process is looked at.
        may_be_infinite: Names of those in which infinity is nothing bad, such
            as masks in buffers; NaN is.

    Returns:
        The names, in order.
    """
    extremes: dict[torch.device, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if hasattr(tensor, 'to_local'):
            tensor = tensor.to_local()
        if (
            isinstance(tensor, Tensor)
            and tensor.is_floating_point()
            and tensor.numel()
            and not tensor.is_meta
        ):
            # NaN is both the smallest and the largest.
            both = torch.stack(torch.aminmax(tensor.detach()))
            extremes.setdefault(tensor.device, {})[name] = both.double()
    bad = set()
    for found in extremes.values():
        values = torch.stack([*found.values()])
        is_nan, is_infinite = values.isnan().any(1), values.isinf().any(1)
        flags = torch.stack([is_nan, is_infinite]).tolist()
        for name, nan, infinite in zip(found, *flags, strict=True):
            if nan or (infinite and name not in may_be_infinite):
                bad.add(name)
    return [name for name in tensors if name in bad]
