# Copyright (c) MotionMAE contributors. All rights reserved.
"""Copies from the host to a device that the host does not wait for."""

import torch
from torch import Tensor

# They compute in the host's memory, or not at all; MPS takes no part either.
_WITHOUT_PINNED_MEMORY = ('cpu', 'meta', 'mps')


def wants_pinned(device: torch.device) -> bool:
    """Tell whether a device copies from page-locked memory without a wait.

    Args:
        device: Such as that of a model. True for CUDA and for whatever else
            PyTorch knows as an accelerator with memory of its own.
    """
    return device.type not in _WITHOUT_PINNED_MEMORY


def copy_without_waiting(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device, through page-locked memory.

    A loader with ``pin_memory=True`` pins clips, but nothing inside data
    samples. For what is small: page-locked memory is kept by PyTorch.

    Args:
        tensor: Any shape and dtype. On another device than the host's it is
            copied in the ordinary way.
        device: Where to.

    Returns:
        The copy; the tensor itself if it is there already. Its values are in
        the queue of the device, so whatever uses it there comes after.
    """
    if tensor.device.type != 'cpu' or not wants_pinned(device):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
