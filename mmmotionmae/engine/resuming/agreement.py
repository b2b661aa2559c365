# Copyright (c) MotionMAE contributors. All rights reserved.
"""Decisions that all processes take at the same step."""

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size


class Agreement:
    """Lets all processes learn at the same step that one of them has asked.

    One process alone knows at once. Several exchange a byte on the CPU, in a
    group of their own, while the step goes on: nobody waits for the device,
    and for others only if they are more than a step behind. All so learn of
    it one step later.

    Args:
        timeout (float, optional): Seconds after which a process that does not
            answer is an error. Defaults to None: PyTorch's.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self._pending: tuple[Any, torch.Tensor] | None = None
        self._group: Any = None
        if get_world_size() > 1:
            limit = None if timeout is None else timedelta(seconds=timeout)
            self._group = dist.new_group(backend='gloo', timeout=limit)

    def ask(self, wish: bool) -> bool:
        """Tell the others, and hear what was asked for a step ago.

        All processes call this equally often.

        Args:
            wish: Of this process.

        Returns:
            Whether any process has asked; the same on all of them.
        """
        if self._group is None:
            return wish
        answer = self.settle()
        flag = torch.tensor([wish], dtype=torch.uint8)
        work = dist.all_reduce(
            flag, dist.ReduceOp.MAX, self._group, async_op=True
        )
        self._pending = work, flag
        return answer

    def settle(self) -> bool:
        """Hear what is on its way; nothing is after that."""
        if self._pending is None:
            return False
        (work, flag), self._pending = self._pending, None
        work.wait()
        return bool(flag.item())
