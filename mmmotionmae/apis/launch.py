# Copyright (c) MotionMAE contributors. All rights reserved.
"""From a config file to a run; what the flags of ``tools/train.py`` change.

The flags are MMAction2's. Every function raises :class:`UsageError` with one
clear sentence where a user's input is at fault.
"""

import math
import os.path as osp
from importlib import import_module
from typing import Any

from mmaction.registry import RUNNERS
from mmengine.config import Config
from mmengine.runner import Runner

from ..utils.errors import UsageError


def load_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config file and override some of its settings.

    Args:
        path: The config file.
        options: Settings such as ``{'train_cfg.max_epochs': 10}``.

    Returns:
        The config, with ``work_dir`` set to ``work_dirs/<name of the file>``
        unless it names one itself.

    Raises:
        UsageError: If there is no such file, or it cannot be read.
    """
    if not osp.isfile(path):
        raise UsageError(f'There is no config file {path!r}.')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:
        raise UsageError(
            f'The config {path!r} cannot be read: '
            f'{type(error).__name__}: {error}'
        ) from error
    if options:
        cfg.merge_from_dict(options)
    if cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(path))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg


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
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def clips_per_rank_and_step(cfg: Config) -> int:
    """Clips that one process contributes to one step of the optimiser.

    Batch size x clips drawn of each video x accumulated batches.
    """
    return math.prod(_batch_factors(cfg))


def _batch_factors(cfg: Config) -> tuple[int, int, int]:
    """Batch size, clips drawn of each video, accumulated batches."""
    loader = cfg.train_dataloader
    return (
        loader.batch_size,
        loader.dataset.get('num_repeats', 1),
        cfg.optim_wrapper.get('accumulative_counts', 1),
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


def set_resume(cfg: Config, resume: str | None, overwrite: bool) -> None:
    """Decide what becomes of an earlier run in the work dir.

    Args:
        cfg: Changed in place.
        resume: ``'auto'``: go on from the last checkpoint of the work dir,
            if there is one. A path: go on from that checkpoint. None: start
            anew.
        overwrite: Whether a new run may write into the work dir of another.

    Raises:
        UsageError: If a run would be overwritten, or the checkpoint to
            resume from is missing.
    """
    if resume is None:
        last = osp.join(cfg.work_dir, 'last_checkpoint')
        if osp.exists(last) and not (overwrite or cfg.get('resume')):
            raise UsageError(
                f'{cfg.work_dir!r} holds the checkpoints of an earlier run. '
                'Go on with it (--resume), choose another --work-dir, or '
                'write over it (--overwrite).'
            )
        return
    cfg.resume = True
    if resume == 'auto':
        cfg.load_from = None
        return
    if '://' not in resume and not osp.isfile(resume):
        raise UsageError(f'There is no checkpoint {resume!r} to resume from.')
    cfg.load_from = resume


def switch_off_validation(cfg: Config) -> None:
    """Train without evaluating in between."""
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config asks for.

    Raises:
        UsageError: If the model is MMDetection's, and that is missing.
    """
    if cfg.get('model', {}).get('_scope_') == 'mmdet':
        _check_detection()
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def _check_detection() -> None:
    try:
        import_module('mmcv.ops')
        import_module('mmdet')
    except ImportError as error:
        raise UsageError(
            'AVA detection needs mmdet>=3.0 and the full mmcv, compiled for '
            'this PyTorch, instead of mmcv-lite; configs/detection/README.md '
            f'tells how to install them ({error}).'
        ) from error


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


def describe_batch(cfg: Config, world_size: int) -> str:
    """The effective batch size and the learning rate, for the log."""
    batch_size, repeats, accumulated = _batch_factors(cfg)
    clips = world_size * batch_size * repeats * accumulated
    text = (
        f'Effective batch size: {clips} clips a step = {world_size} processes '
        f'x {batch_size} videos x {repeats} clips of each x {accumulated} '
        'accumulated batches.'
    )
    lr = cfg.optim_wrapper.get('optimizer', {}).get('lr')
    if lr is None:
        return text
    scaling = cfg.get('auto_scale_lr') or {}
    if not scaling.get('enable'):
        return f'{text} Learning rate: {lr:.4g}, as in the config.'
    # As MMEngine's `Runner.scale_lr` does it.
    lr *= world_size * batch_size / scaling['base_batch_size']
    return f'{text} Learning rate: {lr:.4g}, scaled to the batch size.'
