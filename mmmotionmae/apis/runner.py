# Copyright (c) MotionMAE contributors. All rights reserved.
"""From a config file to a runner."""

import os
import os.path as osp
import tempfile
from importlib import import_module
from typing import Any

from mmaction.registry import RUNNERS
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ..utils.arguments import argument_names, unknown_argument
from ..utils.choices import MAX_SEED
from ..utils.errors import UsageError
from .settings import check_options, check_settings, warn_of_unread
from .strategies import settle_strategy


def load_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config file and override some of its settings.

    Args:
        path: The config file.
        options: Settings such as ``{'train_cfg.max_epochs': 10}``.

    Returns:
        The config, with ``work_dir`` set to ``work_dirs/<name of the file>``
        unless it names one itself.

    Raises:
        UsageError: If there is no such file, or it cannot be read; or of an
            option that nothing would read, see :func:`check_options`.
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
    check_options(cfg, options or {})
    try:
        cfg.merge_from_dict(options or {})
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise UsageError(
            f'--cfg-options {" ".join(options or {})} does not fit the '
            f'config: {error.args[0] if error.args else error}'
        ) from error
    if cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(path))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config asks for.

    Raises:
        UsageError: If the seed is no seed, nothing can be written to the
            work dir, a setting is one of :func:`check_settings`,
            ``CheckpointHook`` has an argument that nobody knows,
            the model is MMDetection's, and that is missing, or the strategy
            is one that does not work, see :func:`settle_strategy`.
    """
    check_settings(cfg)
    settle_strategy(cfg)
    seed = (cfg.get('randomness') or {}).get('seed')
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise UsageError(
            f'A seed (--seed, randomness.seed) is from 0 to {MAX_SEED}; it is '
            f'{seed}.'
        )
    if cfg.get('work_dir') is not None:
        _check_work_dir(cfg.work_dir)
    if cfg.get('model', {}).get('_scope_') == 'mmdet':
        _check_detection()
    if 'runner_type' in cfg:
        runner = RUNNERS.build(cfg)
    else:
        runner = Runner.from_cfg(cfg)
    _check_checkpoint_hooks(runner)
    warn_of_unread(cfg)
    return runner


def _check_checkpoint_hooks(runner: Runner) -> None:
    """They keep what they do not know for the first checkpoint."""
    saving = argument_names(runner.save_checkpoint)
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            for name in hook.args.keys() - {*saving}:
                raise UsageError(unknown_argument(type(hook), name))


def _check_work_dir(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b'1')
    except OSError as error:
        raise UsageError(
            f'Nothing can be written to the work dir {path!r} '
            f'({error.strerror}). Choose another one (--work-dir).'
        ) from error


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
