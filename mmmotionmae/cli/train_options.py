# Copyright (c) MotionMAE contributors. All rights reserved.
"""Changes that the flags of ``tools/train.py`` make to a config.

The flags are MMAction2's. Every function raises :class:`UsageError` with one
clear sentence where a user's input is at fault.
"""

from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ..apis.batches import clips_per_rank_and_step
from ..utils.errors import UsageError


def set_randomness(
    cfg: Config,
    seed: int | None = None,
    diff_rank_seed: bool = False,
    deterministic: bool = False,
) -> None:
    """Set the given parts of ``cfg.randomness``; the others stay."""
    randomness = dict(cfg.get('randomness') or {})
    if seed is not None:
        randomness['seed'] = seed
    if diff_rank_seed:
        randomness['diff_rank_seed'] = True
    if deterministic:
        randomness['deterministic'] = True
    cfg.randomness = randomness


def set_amp(cfg: Config, dtype: str) -> None:
    """Train in mixed precision.

    Args:
        cfg: Changed in place.
        dtype: ``'bf16'`` (no loss scaling, on CPU and GPU) or ``'fp16'``
            (dynamic loss scaling, on a GPU only).

    Raises:
        UsageError: If the config's optimiser wrapper has no mixed precision,
            or for fp16 on a CPU.
    """
    from mmengine.device import get_device

    if not cfg.get('optim_wrapper'):
        return  # no training, which is said later
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UsageError(
            '--amp works with OptimWrapper or AmpOptimWrapper, '
            f'but the config has {wrapper!r}.'
        )
    if dtype == 'fp16' and get_device() == 'cpu':
        raise UsageError('--amp fp16 needs a GPU; use --amp bf16 on a CPU.')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    if dtype == 'bf16':
        cfg.optim_wrapper.dtype = 'bfloat16'
        cfg.optim_wrapper.loss_scale = dict(enabled=False)
    else:
        cfg.optim_wrapper.dtype = 'float16'
        # Without scaling, or with a fixed one, small gradients become 0. A
        # dict is dynamic scaling with numbers of its own.
        own = cfg.optim_wrapper.get('loss_scale')
        if not isinstance(own, dict) or not own.get('enabled', True):
            cfg.optim_wrapper.pop('loss_scale', None)
            cfg.optim_wrapper.loss_scale = 'dynamic'


def _strategy_of(cfg: Config) -> dict[str, Any]:
    strategy = cfg.get('strategy') or {}
    if not isinstance(strategy, dict):
        raise UsageError(
            f"strategy is a dict, such as dict(type='FSDP2Strategy'), not "
            f'{strategy!r}.'
        )
    return dict(strategy)


def set_fsdp(cfg: Config) -> None:
    """Spread the model over all processes, see :class:`FSDP2Strategy`.

    Raises:
        UsageError: If the config has another runner or strategy.
    """
    runner = cfg.get('runner_type', 'Runner')
    strategy = dict(type='FSDP2Strategy') | _strategy_of(cfg)
    if runner not in ('Runner', 'FlexibleRunner'):
        raise UsageError(
            f'--fsdp is for FlexibleRunner, but the config has {runner!r}.'
        )
    if strategy['type'] != 'FSDP2Strategy':
        raise UsageError(
            f'--fsdp is FSDP2Strategy, but the config has the strategy '
            f'{strategy["type"]!r}.'
        )
    if cfg.get('model_wrapper_cfg'):
        raise UsageError(
            '--fsdp has no use for model_wrapper_cfg, which is of DDP: remove '
            'it from the config.'
        )
    for name in ('find_unused_parameters', 'sync_bn'):
        value = cfg.pop(name, None)
        if name == 'sync_bn' and value is not None:
            strategy.setdefault(name, value)
    cfg.runner_type = 'FlexibleRunner'
    cfg.strategy = strategy


def set_deepspeed(cfg: Config, stage: int) -> None:
    """Train with DeepSpeed.

    Args:
        cfg: Changed in place; ``strategy`` keeps what it says of DeepSpeed.
        stage: Of ZeRO, 1 to 3: what is shared out is the optimiser's state,
            also the gradients, also the weights.

    Raises:
        UsageError: If the config has settings of another strategy.
    """
    strategy = _strategy_of(cfg)
    kind = strategy.pop('type', 'DeepSpeedStrategy')
    if kind != 'DeepSpeedStrategy' and strategy:
        raise UsageError(
            f'--deepspeed has no use for strategy.{next(iter(strategy))}, '
            f'which is of {kind}: remove it from the config.'
        )
    zero = dict(strategy.get('zero_optimization') or {}, stage=stage)
    cfg.runner_type = 'FlexibleRunner'
    cfg.strategy = dict(
        strategy, type='DeepSpeedStrategy', zero_optimization=zero
    )


def set_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate with the effective batch size.

    MMEngine multiplies it by (processes x batch size) / ``base_batch_size``
    and knows neither repeated sampling nor accumulation; ``base_batch_size``
    is divided by these two, which makes up for it.

    Raises:
        UsageError: If the config does not say for which batch size its
            learning rate is meant.
    """
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not base:
        raise UsageError(
            '--auto-scale-lr needs the batch size that the learning rate of '
            'the config is meant for: add auto_scale_lr=dict('
            'base_batch_size=...) to it.'
        )
    factor = clips_per_rank_and_step(cfg) / cfg.train_dataloader.batch_size
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=base / factor)


def switch_off_validation(cfg: Config) -> None:
    """Train without evaluating in between."""
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None


def check_train_data(runner: Runner) -> None:
    """Make sure that there is something to train on.

    Raises:
        UsageError: If the config has no training, or its data not one batch.
    """
    if runner.train_loop is None:
        raise UsageError(
            'The config has no training: it needs train_cfg, '
            'train_dataloader and optim_wrapper.'
        )
    loader = runner.train_dataloader
    if not len(loader):
        raise UsageError(
            f'The training set has {len(loader.dataset)} videos, fewer than '
            f'one batch of {loader.batch_size} for each process: lower '
            'train_dataloader.batch_size.'
        )
