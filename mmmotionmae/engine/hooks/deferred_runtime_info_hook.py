# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from mmaction.registry import HOOKS
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor


class DeferredHistory(HistoryBuffer):
    """A history whose latest values may still be on their way to the host.

    It is a ``HistoryBuffer`` in every respect. Before anything is read from
    it, what is on the way is delivered. Copies and pickles of it are plain
    ``HistoryBuffer`` objects.

    Args:
        history: What was recorded so far.
        deliver: Updates this history, and others, with what is on the way.
    """

    def __init__(
        self, history: HistoryBuffer, deliver: Callable[[], None]
    ) -> None:
        self._deliver = deliver
        super().__init__(*history.data, history.max_length)

    @property
    def _log_history(self) -> np.ndarray:
        self._deliver()
        return self._values

    @_log_history.setter
    def _log_history(self, values: np.ndarray) -> None:
        self._values = values

    @property
    def _count_history(self) -> np.ndarray:
        self._deliver()
        return self._counts

    @_count_history.setter
    def _count_history(self, counts: np.ndarray) -> None:
        self._counts = counts

    def __reduce__(self) -> tuple[Any, ...]:
        return HistoryBuffer, (*self.data, self.max_length)


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook`` that does not wait for the device.

    MMEngine fetches every loss from the device in every iteration and waits
    each time until all that was launched before is computed. Here the losses,
    and the gradient norm of ``clip_grad``, stay on the device until an
    iteration that ``LoggerHook`` logs, the end of an epoch, or until anybody
    reads one of them from the message hub, a checkpoint for instance; then
    all are fetched at once. What is read is the same, value for value.

    The host so runs ahead of the device. ``time`` of one iteration is the
    time to launch it and, where all are fetched, to wait for the device. Its
    mean over a logging interval is the true one; that is what is logged
    unless ``window_size`` of the log processor is smaller.

    Only the first value of each key is fetched at once, which keeps the keys
    of the message hub in MMEngine's order.

    Args:
        max_pending (int): After how many records, one or two an iteration,
            the values are fetched although nobody reads them. Bounds their
            memory. Defaults to 1000.
    """

    def __init__(self, max_pending: int = 1000) -> None:
        self.max_pending = max_pending
        self.pending: list[tuple[list[HistoryBuffer], Tensor]] = []
        """Records that are still on the device: histories, values."""

    def before_train(self, runner: Runner) -> None:
        """Update the training state; take over the gradient norm."""
        super().before_train(runner)
        for wrapper in single_wrappers(runner.optim_wrapper):
            self._defer_grad_norm(wrapper)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Record the losses."""
        if outputs is not None:
            self._record(
                runner.message_hub,
                {f'train/{name}': value for name, value in outputs.items()},
            )
        # `LoggerHook` would find the values by itself. But the timer comes
        # before it: the wait would count as time that the next batch took.
        if is_logged(runner, batch_idx):
            self.deliver()

    def after_train(self, runner: Runner) -> None:
        """Update the training state; leave nothing on the device."""
        self.deliver()
        super().after_train(runner)

    def deliver(self) -> None:
        """Fetch all values and put them into their histories, in order."""
        pending, self.pending = self.pending, []
        groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for _, values in pending:
            groups.setdefault((values.dtype, values.device), []).append(values)
        # One transfer for each; the losses are float32 and on one device.
        fetched = {
            kind: iter(torch.cat(group).tolist())
            for kind, group in groups.items()
        }
        for histories, values in pending:
            numbers = fetched[values.dtype, values.device]
            for history in histories:
                history.update(next(numbers))

    def _record(self, hub: MessageHub, scalars: dict[str, Any]) -> None:
        """``hub.update_scalar`` for each, now or later."""
        records: dict[tuple[torch.dtype, torch.device], dict] = {}
        for key, value in scalars.items():
            known = hub.log_scalars.get(key)
            if known is None or not isinstance(value, Tensor):
                hub.update_scalar(key, value)
                continue
            if not isinstance(known, DeferredHistory):
                known = DeferredHistory(known, self.deliver)
                hub.log_scalars[key] = known
            record = records.setdefault((value.dtype, value.device), {})
            record[known] = value.detach().reshape(())
        for record in records.values():
            # A copy: whoever made the values may change them in place.
            values = torch.stack([*record.values()])
            self.pending.append(([*record], values))
        if len(self.pending) >= self.max_pending:
            self.deliver()

    def _defer_grad_norm(self, wrapper: OptimWrapper) -> None:
        """``OptimWrapper`` records what ``clip_func`` returns, unless None."""
        if not getattr(wrapper, 'clip_grad_kwargs', None):
            return  # DeepSpeed's clips by itself
        clip = wrapper.clip_func

        def clip_func(*args: Any, **kwargs: Any) -> None:
            norm = clip(*args, **kwargs)
            if norm is not None:
                key = f'train/{wrapper.grad_name}'
                self._record(wrapper.message_hub, {key: norm})

        wrapper.clip_func = clip_func


def is_logged(runner: Runner, batch_idx: int) -> bool:
    """Tell whether ``LoggerHook`` logs an iteration, or may do so.

    Args:
        runner: Of a training.
        batch_idx: Number of the iteration in its epoch, from 0.
    """
    return batch_idx + 1 == len(runner.train_dataloader) or any(
        hook.every_n_inner_iters(batch_idx, hook.interval)
        for hook in runner.hooks
        if isinstance(hook, LoggerHook)
    )


def single_wrappers(
    wrapper: OptimWrapper | OptimWrapperDict,
) -> Iterator[OptimWrapper]:
    """The wrappers, one for each optimiser, in a wrapper of several."""
    if isinstance(wrapper, OptimWrapperDict):
        yield from chain.from_iterable(
            map(single_wrappers, wrapper.optim_wrappers.values())
        )
    else:
        yield wrapper
