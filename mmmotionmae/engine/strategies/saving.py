# Copyright (c) MotionMAE contributors. All rights reserved.
"""Saving of what is spread over processes: in one file, or in parts."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import mmengine
import torch.distributed as dist
from mmengine.dist import is_main_process
from torch.distributed.tensor import DTensor

from ...checkpoints.sharded import cannot_write, write_sharded
from ...utils.errors import UsageError
from ...utils.files import remove
from ...utils.sharding import whole


class Saver:
    """Writes checkpoints, one at a time; all processes call its methods.

    Args:
        sharded: Whether each process writes its part, into a folder.
        asynchronous: Whether training goes on meanwhile.

    Raises:
        UsageError: If one file is to be written meanwhile.
    """

    def __init__(
        self, sharded: bool = False, asynchronous: bool = False
    ) -> None:
        if asynchronous and not sharded:
            raise UsageError(
                'FSDP2Strategy: checkpoint=dict(asynchronous=True) needs '
                'sharded=True: one file is gathered while training waits.'
            )
        self.sharded = sharded
        self.asynchronous = asynchronous
        self._group: dist.ProcessGroup | None = None  # for saving alone
        self._pending: Future | None = None
        self._actions: list[Callable[[], object]] = []
        self._lock = threading.RLock()

    def write(self, checkpoint: dict[str, Any], filename: str) -> None:
        """Write a checkpoint, or begin to; the one before is complete.

        Args:
            checkpoint: Of this process, with its parts of the tensors.
            filename: The file, or folder.
        """
        self.finish()
        if self.sharded:
            if self._group is None:
                group = dist.new_group(backend='gloo')  # this process is in
                self._group = cast(dist.ProcessGroup, group)
            self._pending = write_sharded(
                checkpoint, Path(filename), self._group, self.asynchronous
            )
            if self._pending is not None:
                self._pending.add_done_callback(self._act)
            return
        content = gather(checkpoint, is_main_process())
        if is_main_process():
            if Path(filename).is_dir():  # of an earlier run, in parts
                remove(Path(filename))
            mmengine.runner.checkpoint.save_checkpoint(content, filename)

    def when_saved(self, action: Callable[[], object]) -> None:
        """Call a function once the last checkpoint is complete."""
        with self._lock:
            if self._pending is None:
                action()
                return
            self._actions.append(action)
            if self._pending.done():
                self._act(self._pending)

    def _act(self, pending: Future) -> None:
        with self._lock:
            while pending.exception() is None and self._actions:
                self._actions.pop(0)()

    def finish(self) -> None:
        """Wait until the last checkpoint is complete.

        Raises:
            CheckpointError: If it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        error = pending.exception()  # which waits
        self._act(pending)  # it may not have been done yet
        self._actions.clear()
        if error is not None:
            raise cannot_write(error) from error


def gather(value: Any, keep: bool) -> Any:
    """Gather all tensors inside, one at a time, into the host's memory.

    Args:
        value: Dicts and lists, in the same order on all processes.
        keep: Whether this process needs the result.

    Returns:
        The same with whole tensors, if ``keep``.
    """
    if isinstance(value, DTensor):
        gathered = whole(value.detach())
        return gathered.cpu() if keep else None
    if isinstance(value, dict):
        new = copy.copy(value)  # with the versions inside a state dict
        for key, item in value.items():
            new[key] = gather(item, keep)
        return new
    if isinstance(value, (list, tuple)):
        return type(value)(gather(item, keep) for item in value)
    return value
