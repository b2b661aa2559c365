# Copyright (c) MotionMAE contributors. All rights reserved.
"""Settings of a config that MMEngine would pass over without a word."""

import ast
import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmaction.registry import RUNNERS
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import FlexibleRunner, Runner
from torch.utils.data import DataLoader

from ..utils.arguments import argument_names, suggest
from ..utils.errors import UsageError

# What is read of a config beside the arguments of a runner: by MMEngine's
# runners and their wrappers of models, and by this package.
_ALSO_READ = (
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'init_weights_for_test_or_val',
    'model_wrapper_cfg',
    'resume_optimizer',
    'runner_type',
    'sync_bn',
)
_TEXTS = (
    'default_scope',
    'experiment_name',
    'launcher',
    'load_from',
    'log_level',
    'resume_optimizer',
    'runner_type',
    'sync_bn',
    'work_dir',
)
_LOADER = (*argument_names(DataLoader), 'num_batch_per_epoch')
# Parts without a type, of which others than these are not read, or end in an
# error of PyTorch without the place.
_PARTS = {
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'test_dataloader': _LOADER,
    'optim_wrapper.clip_grad': (
        *('type', 'max_norm', 'norm_type', 'error_if_nonfinite'),
        *('clip_value', 'foreach'),
    ),
    'auto_scale_lr': ('base_batch_size', 'enable'),
    'env_cfg': ('cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'),
    'env_cfg.mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'optim_wrapper.paramwise_cfg': (
        *('bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult'),
        *('flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult'),
        *('bypass_duplicate', 'custom_keys'),
        *('num_layers', 'decay_rate', 'decay_type'),
    ),
}
# Those that read these; others may read any.
_CONSTRUCTORS = (
    None,
    'DefaultOptimWrapperConstructor',
    'LearningRateDecayOptimizerConstructor',
)
_MOST = 4  # places that a message names


def check_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Make sure that each of ``--cfg-options`` sets what something reads.

    Args:
        cfg: As the file has it. One that is not of a runner, such as the plan
            of a study, may have any settings of its own.
        options: Values, by key, such as ``train_cfg.max_epochs``.

    Raises:
        UsageError: If one is a variable that only the file itself has used,
            or of no known name, or a text in place of a dict or list.
    """
    read = _read_settings()
    of_runner = not read.isdisjoint(cfg)
    for key, value in options.items():
        name = key.partition('.')[0]
        if of_runner and name not in read:
            raise UsageError(_unread(cfg, key, name))
        if isinstance(value, str):
            _check_text(cfg, key, value)


def warn_of_unread(cfg: Config) -> None:
    """Warn of variables of a config file that nothing reads.

    Such as ``data_root = ...`` in a file whose base has made its paths of
    its own ``data_root`` before.
    """
    path = Path(cfg.filename or '')
    if path.suffix != '.py' or not path.is_file():
        return
    read = _read_settings() | {'custom_imports'}
    tree = ast.parse(path.read_text())
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    for node in (t for s in tree.body for t in getattr(s, 'targets', ())):
        name = node.id if isinstance(node, ast.Name) else '_'
        if name in cfg and name not in used | read:
            print_log(
                f'{path} sets {name!r}, which nothing reads'
                f'{suggest(name, read, 0.8) or "."} What a base config has '
                'made of a variable of that name stays as it is: set that '
                'itself.',
                'current',
                logging.WARNING,
            )


def check_settings(cfg: Config) -> None:
    """Check the settings that MMEngine takes from a config by name.

    Raises:
        UsageError: If ``runner_type`` or ``log_level`` is none, or
            a part such as ``auto_scale_lr``, ``env_cfg`` or a loader has
            what nothing reads.
    """
    runner = cfg.get('runner_type', 'Runner')
    if isinstance(runner, str) and RUNNERS.get(runner) is None:
        near = suggest(runner, ('Runner', 'FlexibleRunner'))
        raise UsageError(f'There is no runner_type {runner!r}{near or "."}')
    levels = logging.getLevelNamesMapping()
    if cfg.get('log_level', 'INFO') not in levels:
        raise UsageError(
            f'There is no log_level {cfg.log_level!r}. They are '
            f'{", ".join(levels)}.'
        )
    for place, names in _PARTS.items():
        owner, _, own = place.rpartition('.')
        constructor = _at(cfg, f'{owner}.constructor')
        if own == 'paramwise_cfg' and constructor not in _CONSTRUCTORS:
            continue
        part = _at(cfg, place)
        for name in part if isinstance(part, dict) else ():
            if name not in names:
                end = suggest(name, names) or f'. It has {", ".join(names)}.'
                raise UsageError(f'Nothing reads {place}.{name}{end}')


@cache
def _read_settings() -> frozenset[str]:
    names = argument_names(Runner) + argument_names(FlexibleRunner)
    return frozenset({*names, *_ALSO_READ} - {'cfg'})


def _unread(cfg: Config, key: str, name: str) -> str:
    if name not in cfg:
        near = (
            suggest(name, _read_settings())
            or ', nor has the config such a setting.'
        )
        return f'--cfg-options {key}: nothing reads {name!r}{near}'
    return (
        f'--cfg-options {key} has no effect: {name!r} is a variable that only '
        'the config file itself has used. Set what has its value in its '
        f'place{_named(_places(cfg, name))}.'
    )


def _places(cfg: Config, name: str) -> list[str]:
    """Settings with the value of a variable."""
    value, read = cfg[name], _read_settings()
    return [
        place
        for setting in cfg
        if setting in read
        for place, node in nodes(cfg[setting], setting)
        if _is_made_of(node, value)
        and (
            isinstance(value, (str, dict, list)) or place.endswith(f'.{name}')
        )
    ]


def _named(places: list[str]) -> str:
    if len(places) > _MOST:
        places = [*places[:_MOST], '…']
    return f': {", ".join(places)}' if places else ''


def _check_text(cfg: Config, key: str, text: str) -> None:
    old = _at(cfg, key)
    top = '.' not in key and key in _read_settings() and key not in _TEXTS
    if isinstance(old, dict) or top:
        *_, name = ['NAME', *old] if isinstance(old, dict) else ['NAME']
        raise UsageError(
            f'--cfg-options {key}={text}: {key} is no text but made of '
            f'settings. Name the one to change, such as {key}.{name}=VALUE.'
        )


def _at(cfg: Any, key: str) -> Any:
    """Value of a config at ``a.0.b``; None where it has nothing."""
    for part in key.split('.'):
        if isinstance(cfg, (list, tuple)) and part.isdecimal():
            cfg = cfg[int(part)] if int(part) < len(cfg) else None
        else:
            cfg = cfg.get(part) if isinstance(cfg, (dict, Config)) else None
    return cfg


def _is_made_of(node: Any, value: Any) -> bool:
    if isinstance(node, str) and isinstance(value, str):
        return value != '' and value in node
    return type(node) is type(value) and node == value


def nodes(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """A part of a config and all that is in it, with their places."""
    yield place, value
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, item in items:
        yield from nodes(item, f'{place}.{key}')
