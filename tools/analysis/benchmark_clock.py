# Copyright (c) MotionMAE contributors. All rights reserved.
"""Points in time on a device, without making the host wait for it."""

import time
from collections.abc import Callable
from typing import Any

import torch

Clock = Callable[[], float]  # seconds; the one of the host


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was told to."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def now(device: torch.device, clock: Clock = time.perf_counter) -> Any:
    """When the device has done all that it was told to so far.

    Args:
        device: Where it happens.
        clock: Tells the time of the host; a GPU has its own.
    """
    if device.type != 'cuda':
        return clock()
    # Waits for nothing, so the GPU does not idle.
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def milliseconds(start: Any, end: Any) -> float:
    """From one point to another; those of a GPU must have been reached."""
    if isinstance(start, float):
        return 1e3 * (end - start)
    return start.elapsed_time(end)
