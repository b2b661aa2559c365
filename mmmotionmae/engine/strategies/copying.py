# Copyright (c) MotionMAE contributors. All rights reserved.
"""Copies of a module that is spread over processes."""

import copy
from typing import Any

from torch import nn
from torch.distributed._composable.contract import REGISTRY_KEY, STATE_KEY
from torch.distributed.fsdp import FSDPModule


def allow_copies(model: nn.Module) -> None:
    """Let ``copy.deepcopy`` copy a model that ``fully_shard`` has changed.

    PyTorch refuses that. A copy has the parameters as they are, each process
    its part, and none of what gathers them: it holds averaged weights
    (``EMAHook``), and cannot be run.

    Args:
        model: After ``fully_shard``; its classes are changed in place.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            setattr(type(module), '__deepcopy__', _copy)  # noqa: B010


def _copy(module: Any, memo: dict[int, Any]) -> nn.Module:
    """``__deepcopy__`` of a class that ``fully_shard`` has made."""
    original: Any = type(module).__mro__[2]  # itself, FSDPModule, yours
    for parameter in module.parameters():
        if id(parameter) not in memo:
            memo[id(parameter)] = nn.Parameter(
                parameter.detach().clone(), parameter.requires_grad
            )
    new: nn.Module = original.__new__(original)
    memo[id(module)] = new
    for name, value in vars(module).items():
        if name in (STATE_KEY, REGISTRY_KEY):
            continue
        if name.endswith('_hooks') and isinstance(value, dict):
            value = type(value)(
                (k, hook) for k, hook in value.items() if not _gathers(hook)
            )
        vars(new)[name] = copy.deepcopy(value, memo)
    return new


def _gathers(hook: Any) -> bool:
    """Tell whether a hook is one of ``fully_shard``."""
    hook = getattr(hook, 'hook', hook)
    owner = getattr(hook, '__self__', None)
    place = hook if owner is None else type(owner)
    return str(getattr(place, '__module__', '')).startswith(
        'torch.distributed.fsdp'
    )
