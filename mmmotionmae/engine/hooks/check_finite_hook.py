# Copyright (c) MotionMAE contributors. All rights reserved.
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from ...utils.errors import NotFiniteError
from ...utils.finite import find_not_finite
from ...utils.provenance import unwrap
from ...utils.run_folder import finish_saving, last_checkpoint
from ...utils.sharding import holds_parts
from ..not_finite_report import (
    FILENAME,
    Finding,
    Step,
    explain,
    last_steps,
    name_clips,
    write_report,
)
from .deferred_runtime_info_hook import is_logged, single_wrappers

# A scaler starts with 65536 and halves that in each step that it skips.
MIN_LOSS_SCALE = 1e-4


@HOOKS.register_module()
class CheckFiniteHook(Hook):
    """End a training whose loss, gradients or weights are NaN or infinite.

    Left alone it would go on to its end, and each checkpoint that can still
    be used would make way for one of NaN. What was recorded of the losses,
    and of the gradient norm where ``clip_grad`` computes it, is looked at
    where it is logged, with :class:`DeferredRuntimeInfoHook` fetched anyhow,
    so that nobody waits for the device more often; at the end of an epoch;
    and after ``interval`` iterations without either. Gradients without a norm
    show in the next loss. Before a checkpoint, a validation, and the end of
    training, the weights and the state of the optimiser are looked at, too;
    so nothing is saved, or removed, unless all is finite.

    All processes stop together. ``not_finite_iter_<iteration>.json`` in the
    work dir has, of each process that came to it first, what was found and
    the clips of the batch: file, index and seed, as far as data samples have
    them (those of :class:`RobustVideoDataset` do). Without a gradient norm it
    cannot be told whether this batch or the gradients of the step before are
    to blame; then the file has the clips of both.

    Steps that the loss scaling of float16 skips, because of their gradients,
    are as they should be. A scale below 1e-4 is not: none helps.

    Args:
        interval (int): Look after so many iterations at the latest; no more
            than these are trained in vain. Defaults to 20, as the log here.

    Raises:
        NotFiniteError: Not here, but in training. It says where, which
            checkpoint is the last good one, and what to try.
    """

    # After the losses are recorded; before they are logged, the timer runs,
    # and anything is done with the weights.
    priority = 'HIGH'

    def __init__(self, interval: int = 20) -> None:
        self.interval = interval
        self._steps: deque[Step] = deque()
        self._num_new = 0  # of these, since the last look
        self._losses: dict[str, None] = {}  # their names, in order
        self._looked_at = 0  # iteration at which the weights were
        self._has_checkpoint = False

    def before_train(self, runner: Runner) -> None:
        """Forget what was before."""
        accumulated = max(
            getattr(wrapper, '_accumulative_counts', 1)
            for wrapper in single_wrappers(runner.optim_wrapper)
        )
        self._steps = deque(maxlen=self.interval + 2 * accumulated)
        self._num_new = self._looked_at = 0
        self._has_checkpoint = runner._resume

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Remember the clips; look, where it is time."""
        self._steps.append(
            Step(
                runner.iter + 1,
                runner.epoch + 1,
                _has_updated(runner),
                name_clips(data_batch),
            )
        )
        self._num_new += 1
        names = (name for name in outputs or () if 'loss' in name)
        self._losses.update(dict.fromkeys(names))
        saves = self._saves_now(runner)
        if (
            saves
            or self._num_new == self.interval
            or is_logged(runner, batch_idx)
        ):
            self._look(runner, weights=saves)

    def after_train_epoch(self, runner: Runner) -> None:
        """Look, before the checkpoint of an epoch."""
        self._look(runner, weights=True)

    def before_val(self, runner: Runner) -> None:
        """Look, before a best checkpoint."""
        self._look(runner, weights=True)

    def before_interim_checkpoint(self, runner: Runner) -> None:
        """Look, before a checkpoint between the regular ones."""
        self._look(runner, weights=True)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look, unless that is done.

        In this process: ``Runner.save_checkpoint`` is the main process's
        alone. In all if each has a part of the weights, as all save then.

        Raises:
            NotFiniteError: See above.
        """
        if holds_parts(checkpoint.get('state_dict', {})):
            self._look(runner, weights=True)
        else:
            finding = self._find(runner, weights=True)
            if finding is not None:
                self._stop(runner, [finding])
        self._has_checkpoint = True

    def after_train(self, runner: Runner) -> None:
        """Look, before the last weights are exported."""
        self._look(runner, weights=True)

    def _saves_now(self, runner: Runner) -> bool:
        """Tell whether ``CheckpointHook`` is about to save, or to remove."""
        return any(
            not hook.by_epoch
            and (
                self.every_n_train_iters(
                    runner, hook.interval, hook.save_begin
                )
                or self.is_last_train_iter(runner)
            )
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook)
        )

    def _look(self, runner: Runner, weights: bool) -> None:
        """Look at what is new, in all processes.

        Raises:
            NotFiniteError: See above.
        """
        if not self._steps:  # a validation without training
            return
        last = self._steps[-1].iteration
        weights = weights and self._looked_at != last
        if not (weights or self._num_new):
            return
        findings = all_gather_object(self._find(runner, weights))
        self._num_new = 0
        if weights:
            self._looked_at = last
        if any(findings):
            self._stop(runner, findings)

    def _find(self, runner: Runner, weights: bool) -> Finding | None:
        """Look at what is new, in this process."""
        if not self._steps:
            return None
        finding = self._look_at_scalars(runner) if self._num_new else None
        if (
            finding is None
            and weights
            and self._looked_at != self._steps[-1].iteration
        ):
            finding = self._look_at_weights(runner)
        return finding

    def _look_at_scalars(self, runner: Runner) -> Finding | None:
        """Find the first iteration that went wrong in this process."""
        new = list(self._steps)[-self._num_new :]
        found: dict[int, list[str]] = {}
        for name in self._losses:
            for step, value in _not_finite(runner, name, new):
                found.setdefault(step.iteration, []).append(
                    f'{name} is {value}'
                )
        bad_loss = min(found, default=None)
        knows_norm = False
        for wrapper in single_wrappers(runner.optim_wrapper):
            scaler = getattr(wrapper, 'loss_scaler', None)
            if scaler is not None and scaler.is_enabled():
                if bad_loss is None and _is_stuck(wrapper):
                    what = (
                        'No gradients are finite, whatever the loss scale '
                        f'(below {MIN_LOSS_SCALE:g})'
                    )
                    found[new[-1].iteration] = [what]
                continue
            name = getattr(wrapper, 'grad_name', 'grad_norm')
            knows_norm |= f'train/{name}' in runner.message_hub.log_scalars
            updates = [step for step in new if step.updates]
            for step, value in _not_finite(runner, name, updates):
                found.setdefault(step.iteration, []).append(
                    f'{name} is {value}'
                )
        if not found:
            return None
        first = min(found)
        if first == bad_loss and knows_norm:  # so the weights were finite
            suspects = [s for s in new if s.iteration == first]
        else:
            suspects = last_steps(self._steps, first, 1 + (first == bad_loss))
        return Finding(', '.join(found[first]), suspects)

    def _look_at_weights(self, runner: Runner) -> Finding | None:
        """Look at weights and the state of the optimiser in this process."""
        model = unwrap(runner.model)
        buffers = dict(model.named_buffers())
        tensors: dict[str, Any] = {**dict(model.named_parameters()), **buffers}
        for wrapper in single_wrappers(runner.optim_wrapper):
            optimizer = getattr(wrapper, 'optimizer', None)
            states = getattr(optimizer, 'state', {}).values()
            for index, state in enumerate(states):
                if isinstance(state, dict):  # not with DeepSpeed
                    for name, value in state.items():
                        tensors[f'{name} of parameter {index}'] = value
        bad = find_not_finite(tensors, may_be_infinite=buffers)
        if not bad:
            return None
        some = ', '.join(bad[:2]) + (', ...' if len(bad) > 2 else '')
        return Finding(
            f'{len(bad)} tensors of the weights and the optimiser hold NaN or '
            f'infinity ({some})',
            last_steps(self._steps, self._steps[-1].iteration, 1),
        )

    def _stop(self, runner: Runner, findings: list[Finding | None]) -> None:
        """Write the report and raise the error, in all processes."""
        finish_saving(runner)
        first = min((f for f in findings if f), key=lambda f: f.iteration)
        path = Path(runner.work_dir) / FILENAME.format(first.iteration)
        last = None
        if is_main_process():  # which alone knows, and tells
            if self._has_checkpoint:
                last = last_checkpoint(Path(runner.work_dir))
            write_report(path, findings, last)
        raise NotFiniteError(explain(first, path, last, _advise(runner)))


def _has_updated(runner: Runner) -> bool:
    """Tell whether the optimiser has taken a step in this iteration."""
    return any(
        not hasattr(wrapper, 'should_update') or wrapper.should_update()
        for wrapper in single_wrappers(runner.optim_wrapper)
    )


def _not_finite(
    runner: Runner, name: str, steps: list[Step]
) -> Iterator[tuple[Step, float]]:
    """Those of the last steps whose value is not finite, and the value."""
    history = runner.message_hub.log_scalars.get(f'train/{name}')
    if history is None or not steps:
        return
    values = history.data[0][-len(steps) :]
    for step, value in zip(steps[-len(values) :], values, strict=True):
        if not np.isfinite(value):
            yield step, float(value)


def _is_stuck(wrapper: Any) -> bool:
    """Tell whether a dynamic scaler of losses has tried all in vain."""
    if getattr(wrapper, '_scale_update_param', None) is not None:
        return False  # a fixed scale
    return wrapper.loss_scaler.get_scale() < MIN_LOSS_SCALE


def _advise(runner: Runner) -> list[str]:
    """List what helps, the least trouble first."""
    advice = []
    for wrapper in single_wrappers(runner.optim_wrapper):
        if str(getattr(wrapper, 'cast_dtype', '')) == 'torch.float16':
            advice.append('bfloat16 (--amp bf16)')
        if not getattr(wrapper, 'clip_grad_kwargs', None):
            advice.append(
                'clip gradients (--cfg-options '
                'optim_wrapper.clip_grad.max_norm=1)'
            )
    advice.append('start again with a lower learning rate or a longer warm-up')
    return list(dict.fromkeys(advice))
