# Copyright (c) MotionMAE contributors. All rights reserved.
"""Full precision inside mixed precision."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """Switch autocast off, for the device of a tensor.

    Args:
        tensor: On any device. On one that knows no autocast, as the meta
            device, there is nothing to switch off.
    """
    device = tensor.device.type
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)
