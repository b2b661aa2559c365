# Copyright (c) MotionMAE contributors. All rights reserved.
"""Weights that DeepSpeed has shared out: in a model, and in a folder."""

import os.path as osp
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from torch import Tensor

from ..utils.errors import CheckpointError, UsageError

MISSING = (
    'DeepSpeed is needed, and cannot be imported: '
    "pip install 'mmmotionmae[deepspeed]'. FSDP2Strategy shards a model "
    'without it.'
)
_MODEL = '*mp_rank_*_model_states.pt'  # with ZeRO 3, one of each process
_STATES_OF_RANK = re.compile(r'zero_pp_rank_(\d+)_mp_rank_\d+_optim_states')


def whole_state_dict(engine: Any) -> dict[str, Tensor]:
    """Gather the weights, at full precision, of what ZeRO has shared out.

    All processes call this.

    Args:
        engine: DeepSpeed's.

    Returns:
        The state dict of the model inside, on the CPU: parameters in float32
        where an optimiser holds them so, whatever the model computes in. On
        all processes but the main one it is empty.
    """
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_get_full_fp32_param

    state: dict[str, Tensor] = {}
    known: dict[int, Tensor] = {}  # weights may have several names
    for name, value in engine.module.state_dict(keep_vars=True).items():
        if id(value) not in known:
            whole = None
            sharded = hasattr(value, 'ds_id')
            if value.requires_grad and (
                sharded or value.dtype != torch.float32
            ):
                whole = safe_get_full_fp32_param(value)
            if whole is not None:
                known[id(value)] = _copy(whole.view(_shape(value)))
            else:
                with GatheredParameters([value], enabled=sharded):
                    known[id(value)] = _copy(value)
        if is_main_process():
            state[name] = known[id(value)]
        else:
            known[id(value)] = torch.empty(0)
    return state


def _shape(parameter: Any) -> Any:
    return getattr(parameter, 'ds_shape', parameter.shape)


def _copy(value: Tensor) -> Tensor:
    return value.detach().to('cpu', copy=True)


def holds_checkpoint(folder: str) -> bool:
    """Tell whether a folder is a checkpoint of DeepSpeed."""
    return osp.isdir(folder) and any(Path(folder).glob(_MODEL))


def read_folder(folder: str) -> dict[str, Any]:
    """Read the weights of a checkpoint of DeepSpeed, of all processes.

    Args:
        folder: For which :func:`holds_checkpoint` is true.

    Returns:
        A dict with ``state_dict``, on the CPU, in float32 where an optimiser
        held it so, and ``meta``.

    Raises:
        UsageError: If that needs DeepSpeed, and it is missing.
    """
    path = Path(folder).absolute()
    content = torch.load(sorted(path.glob(_MODEL))[0], map_location='cpu')
    tensors = content['module']
    if _ranks_of(path):
        try:
            from deepspeed.utils import zero_to_fp32
        except ImportError:
            raise UsageError(f'To read {folder}: {MISSING}') from None
        tensors = zero_to_fp32.get_fp32_state_dict_from_zero_checkpoint(
            str(path.parent), path.name
        )
    return dict(state_dict=OrderedDict(tensors), meta=content.get('meta', {}))


def load_into(
    engine: Any, content: dict, strict: bool, revise_keys: list
) -> None:
    """Load weights into the model, and into what its optimiser holds."""
    import mmengine.runner.checkpoint
    from deepspeed.runtime.zero import GatheredParameters

    sharded = [p for p in engine.module.parameters() if hasattr(p, 'ds_id')]
    with GatheredParameters(sharded, modifier_rank=0, enabled=bool(sharded)):
        mmengine.runner.checkpoint._load_checkpoint_to_model(
            engine.module, content, strict=strict, revise_keys=revise_keys
        )
    if hasattr(engine.optimizer, 'refresh_fp32_params'):
        engine.optimizer.refresh_fp32_params()


def check_folder(folder: str, world_size: int) -> None:
    """Make sure that a run of so many processes can go on from a folder.

    Raises:
        CheckpointError: If it is no checkpoint of DeepSpeed, or of another
            number of processes.
    """
    if not osp.isdir(folder):
        raise CheckpointError(
            f'{folder} is no checkpoint of DeepSpeed, which is a folder. To '
            'start from its weights alone: --cfg-options load_from=PATH.'
        )
    ranks = _ranks_of(Path(folder))
    if not ranks and not holds_checkpoint(folder):
        raise CheckpointError(f'{folder} is no checkpoint of DeepSpeed.')
    if ranks and ranks != {*range(world_size)}:
        raise CheckpointError(
            f'{folder} has the optimiser of {max(ranks) + 1} processes, '
            f'and this run has {world_size}: DeepSpeed goes on with as many '
            'as before only. FSDP2Strategy does with any number; to start '
            'from the weights alone: --cfg-options load_from=PATH.'
        )


def _ranks_of(folder: Path) -> set[int]:
    """Processes whose part of the optimiser is in a folder."""
    found = [_STATES_OF_RANK.search(path.name) for path in folder.iterdir()]
    return {int(match[1]) for match in found if match}
