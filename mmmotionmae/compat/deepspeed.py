# Copyright (c) MotionMAE contributors. All rights reserved.
"""DeepSpeed (ZeRO 1-3) under MMEngine's ``DeepSpeedStrategy``."""

import importlib
import os
import os.path as osp
import shutil
from functools import wraps
from typing import Any

import torch
from mmengine.dist import barrier, get_world_size, is_main_process
from torch import Tensor, nn

from ..utils.errors import UsageError
from ..utils.patching import once
from .deepspeed_weights import (
    MISSING,
    check_folder,
    load_into,
    whole_state_dict,
)
from .saving import to_plain

# Where DeepSpeed has, or had, the optimisers that MMEngine offers by name.
_OPTIMIZERS = (
    ('deepspeed.ops.adam', 'DeepSpeedCPUAdam'),
    ('deepspeed.ops.adam', 'FusedAdam'),
    ('deepspeed.ops.lamb', 'FusedLamb'),
    ('deepspeed.runtime.fp16.onebit', 'OnebitAdam'),
    ('deepspeed.runtime.fp16.onebit', 'OnebitLamb'),
    ('deepspeed.runtime.fp16.onebit', 'ZeroOneAdam'),
)


@once
def mend_deepspeed() -> None:
    """MMEngine 0.10's ``DeepSpeedStrategy`` cannot be built any more.

    It imports optimisers that DeepSpeed has dropped. It also scales no
    learning rate; calls no hook with what it saves and loads, so that no
    encoder is exported; loads no
    checkpoint but its own kind, so that nothing can be fine-tuned; leaves a
    folder half written if it is killed; and its ``DeepSpeedOptimWrapper``
    knows neither accumulated batches nor their rest at the end of an epoch.

    Remove when: MMEngine's ``DeepSpeedStrategy`` does all this.

    Raises:
        UsageError: Not here, but where the strategy is built without
            DeepSpeed.
        CheckpointError: Not here, but where a run is resumed from what is no
            checkpoint of DeepSpeed, or of another number of processes.
    """
    from mmengine._strategy import deepspeed as module
    from mmengine.runner.checkpoint import CheckpointLoader

    strategy = module.DeepSpeedStrategy
    init, setup = strategy.__init__, strategy._setup_distributed
    wrap_model, load = strategy._wrap_model, strategy.load_checkpoint
    save, resume = strategy.save_checkpoint, strategy.resume

    @wraps(init)
    def build(self: Any, **kwargs: Any) -> None:
        if module.deepspeed is None:
            raise UsageError(MISSING)
        init(self, **kwargs)

    @wraps(setup)
    def set_up(self: Any, *args: Any, **kwargs: Any) -> None:
        _communicate_by_gloo_on_cpu()
        setup(self, *args, **kwargs)

    @wraps(wrap_model)
    def wrap(self: Any, model: nn.Module) -> Any:
        _communicate_by_gloo_on_cpu()
        if hasattr(self, 'optim_wrapper'):
            self._scale_lr()
            merge_groups(self.optim_wrapper.optimizer)
        # It goes into every checkpoint, whose loading refuses other types.
        self.config = to_plain(self.config)
        return wrap_model(self, model)

    def model_state_dict(self: Any) -> dict[str, Tensor]:
        return whole_state_dict(self.model.model)

    @wraps(save)
    def save_whole_folder(
        self: Any,
        filename: str,
        *,
        extra_ckpt: dict | None = None,
        callback: Any = None,
        **kwargs: Any,
    ) -> None:
        extra = dict(extra_ckpt or {})
        if callback is not None:
            content = dict(extra, state_dict=self.model_state_dict())
            callback(content)
            for name in ('state_dict', 'optimizer'):
                content.pop(name, None)
            extra = content
        temporary = f'{filename}.tmp'
        save(self, temporary, extra_ckpt=to_plain(extra), **kwargs)
        barrier()
        if is_main_process() and osp.exists(temporary):
            if osp.isdir(filename):
                shutil.rmtree(filename)
            os.replace(temporary, filename)
        barrier()

    @wraps(load)
    def load_weights(
        self: Any,
        filename: str,
        *,
        map_location: Any = 'cpu',
        strict: bool = False,
        revise_keys: list = [(r'^module.', '')],
        callback: Any = None,
    ) -> dict:
        content = CheckpointLoader.load_checkpoint(filename, map_location)
        if callback is not None:
            callback(content)
        load_into(self.model.model, content, strict, revise_keys)
        return content

    @wraps(resume)
    def resume_folder(
        self: Any, filename: str, *, callback: Any = None, **kwargs: Any
    ) -> dict:
        folder = osp.abspath(filename)
        check_folder(folder, get_world_size())
        content = resume(self, folder, **kwargs)
        if callback is not None:
            # As other strategies have it: what it was resumed from is gone.
            whole = dict(content, optimizer={})
            if hasattr(self, 'param_schedulers'):
                whole['param_schedulers'] = self.scheduler_state_dict()
            callback(whole)
        return content

    module.register_deepspeed_optimizers = register_optimizers
    strategy.__init__ = build
    strategy._setup_distributed = set_up
    strategy._wrap_model = wrap
    strategy.model_state_dict = model_state_dict
    strategy.save_checkpoint = save_whole_folder
    strategy.load_checkpoint = load_weights
    strategy.resume = resume_folder
    _let_wrapper_accumulate(module.DeepSpeedOptimWrapper)


def register_optimizers() -> list[str]:
    """Register the optimisers of DeepSpeed that there are.

    Returns:
        Their names.
    """
    from mmengine.registry import OPTIMIZERS

    names = []
    for path, name in _OPTIMIZERS:
        try:
            optimizer = getattr(importlib.import_module(path), name)
        except (ImportError, AttributeError):
            continue
        if OPTIMIZERS.get(name) is None:
            OPTIMIZERS.register_module(module=optimizer)
        names.append(name)
    return names


def _communicate_by_gloo_on_cpu() -> None:
    """Leave out DeepSpeed's collectives for CPUs: a compiler makes them.

    That takes minutes at each first start, and a start that is killed leaves
    a lock on which all later ones wait for ever.
    """
    from deepspeed.accelerator import get_accelerator
    from deepspeed.ops import __compatible_ops__

    if get_accelerator().device_name() == 'cpu':
        __compatible_ops__['deepspeed_shm_comm'] = False


def merge_groups(optimizer: torch.optim.Optimizer) -> None:
    """Merge parameter groups whose settings are the same.

    MMEngine makes one for each parameter, and ZeRO a collective for each
    group.

    Args:
        optimizer: Without state; changed in place. The groups keep the order
            of their first parameters.
    """
    merged: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        settings = {k: v for k, v in group.items() if k != 'params'}
        for other in merged:
            if settings == {k: v for k, v in other.items() if k != 'params'}:
                other['params'] = [*other['params'], *group['params']]
                break
        else:
            merged.append(dict(group))
    optimizer.param_groups[:] = merged


# ------------------------------------------------------------ accumulation


def _let_wrapper_accumulate(wrapper: Any) -> None:
    """Give ``DeepSpeedOptimWrapper`` what ``OptimWrapper`` can do.

    ``accumulative_counts`` must be DeepSpeed's
    ``gradient_accumulation_steps``. Batches that are left at the end make a
    step of their own, and the loss of each is divided by the number of those
    that belong to its step.
    """
    init = wrapper.__init__

    @wraps(init)
    def build(self: Any, optimizer: Any, accumulative_counts: int = 1) -> None:
        init(self, optimizer)
        self._accumulative_counts = accumulative_counts
        self._inner_count, self._max_counts = 0, -1

    def initialize_count_status(
        self: Any, model: Any, init_counts: int, max_counts: int
    ) -> None:
        self._inner_count, self._max_counts = init_counts, max_counts

    def should_update(self: Any) -> bool:
        return (
            self._inner_count % self._accumulative_counts == 0
            or self._inner_count == self._max_counts
        )

    def update_params(self: Any, loss: Tensor) -> None:
        counts, step = self._accumulative_counts, self._inner_count
        rest = self._max_counts % counts if self._max_counts > 0 else 0
        if rest and step >= self._max_counts - rest:
            counts = rest
        self._inner_count += 1
        if self._accumulative_counts > 1:
            self.model.set_gradient_accumulation_boundary(self.should_update())
        self.model.backward(loss / counts, scale_wrt_gas=False)
        self.model.step()

    wrapper.__init__ = build
    wrapper.initialize_count_status = initialize_count_status
    wrapper.should_update = should_update
    wrapper.update_params = update_params
