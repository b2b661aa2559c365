# Copyright (c) MotionMAE contributors. All rights reserved.
from typing import Any

import numpy as np
from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .deferred_runtime_info_hook import is_logged


@HOOKS.register_module()
class AverageLogsHook(Hook):
    """Log losses and scores of a training as means over all processes.

    MMEngine logs those of the first process, computed on its part of the
    batch. Here the processes exchange what they recorded since the last line
    of the log, once, just before the next; no step waits for that. Until then
    the message hub has the values of the process.

    A value that not all processes have equally often, as it is not there in
    each iteration, becomes the mean of all of them since the last line.
    """

    # Before the timer and the logger, after all that may end the training.
    priority = 'ABOVE_NORMAL'

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}  # of values since the last line

    def before_train(self, runner: Runner) -> None:
        """Forget what was before."""
        self._counts = {}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Exchange the values, where they are logged."""
        if get_world_size() == 1:
            return
        for name in outputs or ():
            key = f'train/{name}'
            self._counts[key] = self._counts.get(key, 0) + 1
        if is_logged(runner, batch_idx):
            self._average(runner)

    def _average(self, runner: Runner) -> None:
        histories = runner.message_hub.log_scalars
        own = {
            key: histories[key].data[0][-count:]
            for key, count in self._counts.items()
            if key in histories
        }
        self._counts = {}
        everywhere = all_gather_object(own)
        for key, values in own.items():
            log = histories[key].data[0].astype(np.float64)  # maybe integers
            log[-len(values) :] = mean_over_processes(
                [other[key] for other in everywhere if key in other]
            )
            histories[key]._log_history = log


def mean_over_processes(values: list[np.ndarray]) -> np.ndarray | float:
    """The mean of each value, or, if they are not equally many, of all.

    Args:
        values: Of each process, float (N, ).

    Returns:
        (N, ), or the mean of all.
    """
    if len({len(part) for part in values}) == 1:
        return np.mean(np.asarray(values, np.float64), axis=0)
    return float(np.concatenate(values).mean(dtype=np.float64))
