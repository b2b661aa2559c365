# Copyright (c) MotionMAE contributors. All rights reserved.
"""Configs of targets: ``targets`` of a model, and shorthands for it.

The method has two targets. What is said of them most often has short names
in the configs of head, neck and data preprocessor; here alone they are
understood.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from inspect import isclass
from typing import Any

from mmaction.registry import MODELS
from torch import nn

from ...utils.arguments import suggest
from ...utils.errors import UsageError, UsageTypeError
from .base import ReconstructionTarget

Targets = Mapping[str, ReconstructionTarget]

DEFAULT_TARGETS: dict[str, dict[str, Any]] = dict(
    pixel=dict(type='PixelTarget'),
    motion=dict(type='FrameDifferenceTarget'),
)

# Words that a key or a data sample has for something else.
RESERVED = (
    *('shared', 'input', 'masked', 'mask', 'feature', 'errors', 'training'),
    *('name', 'source', 'statistics', 'frame_inds'),
)

# Keys of the head's config, and what they stand for.
HEAD_SHORTHANDS = dict(
    pixel_weight=('pixel', 'weight'),
    motion_weight=('motion', 'weight'),
    pixel_norm=('pixel', 'norm'),
    motion_norm=('motion', 'norm'),
    moving_threshold=('motion', 'moving_threshold'),
)

SHORTHANDS: dict[str, tuple[str, ...]] = dict(
    head=tuple(HEAD_SHORTHANDS),
    neck=('targets',),
    data_preprocessor=('targets', 'frame_difference'),
)


def resolve_targets(
    targets: Mapping[str, Mapping[str, Any]] | None = None,
    head: Mapping[str, Any] | None = None,
    neck: Mapping[str, Any] | None = None,
    data_preprocessor: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """The configs of all targets of a model.

    Args:
        targets: For each name a config. None: pixels and motion.
        head: Config of the head, of which ``pixel_weight``,
            ``motion_weight``, ``pixel_norm``, ``motion_norm`` and
            ``moving_threshold`` count.
        neck: That of the neck: ``targets``, names.
        data_preprocessor: Its config: ``targets``, names, and
            ``frame_difference``, arguments of :class:`FrameDifference`.

    Returns:
        For each name a config with ``type``, those of weight 0 left out. A
        weight above 0 under its short name adds the target.

    Raises:
        ValueError: If something is said twice, and not the same; or of no
            target is the weight above 0; or one is below 0.
    """
    given = DEFAULT_TARGETS if targets is None else targets
    if not isinstance(given, Mapping) or not all(
        isinstance(cfg, Mapping) for cfg in given.values()
    ):
        raise UsageTypeError(
            'targets must be a dict from names to configs, such as '
            f"dict(pixel=dict(type='PixelTarget')), not {given!r}."
        )
    result = {name: dict(cfg) for name, cfg in deepcopy(dict(given)).items()}
    for source, name, key, value in _shorthands(head, neck, data_preprocessor):
        if name not in result:
            if key != 'weight' or not value:
                continue  # of a target that is not there
            result[name] = dict(DEFAULT_TARGETS[name])
        cfg = result[name]
        if cfg.setdefault(key, value) != value:
            raise UsageError(
                f'{source} asks for {key}={value!r} of the target {name!r}, '
                f'and targets.{name} for {key}={cfg[key]!r}: leave one of '
                'the two out.'
            )
    for name, cfg in result.items():
        _complete(name, cfg)
    result = {n: cfg for n, cfg in result.items() if cfg.get('weight', 1)}
    if not result:
        raise UsageError(
            f'No target of {[*given]} has a weight above 0: give one of '
            'them one. (head.pixel_weight and '
            'head.motion_weight must not be both 0.)'
        )
    for part, names in _names(neck, data_preprocessor):
        if {*names} != {*result}:
            raise UsageError(
                f'{part}.targets names {[*names]}, but the targets of the '
                f'model are {[*result]}: leave {part}.targets out.'
            )
    return result


def build_targets(
    configs: Mapping[str, Mapping[str, Any]], **size: int
) -> dict[str, ReconstructionTarget]:
    """Build targets.

    Args:
        configs: What :func:`resolve_targets` returns.
        **size: ``channels``, ``tubelet_size`` and ``patch_size``.

    Raises:
        TypeError: If one is no :class:`ReconstructionTarget`.
    """
    result = {}
    for name, cfg in configs.items():
        fixed = dict(name=name, **size)
        for key in fixed.keys() & cfg.keys():
            if cfg[key] != fixed[key]:
                raise UsageError(
                    f'targets.{name}.{key} is {cfg[key]!r}, but the model '
                    f'has {fixed[key]!r}: leave it out, it is filled in.'
                )
        kind = cfg['type']
        if isinstance(kind, str) and MODELS.get(kind) is None:
            raise UsageError(
                f'targets.{name}: there is no {kind!r}. Mind the spelling; '
                'or, if it is your own, import its module first: with '
                'custom_imports in a config, which a checkpoint alone does '
                'not run.'
            )
        kind = MODELS.get(kind) if isinstance(kind, str) else kind
        if not (isclass(kind) and issubclass(kind, ReconstructionTarget)):
            raise UsageTypeError(
                f'targets.{name} must be a ReconstructionTarget, not '
                f'{cfg["type"]!r}.'
            )
        result[name] = MODELS.build(dict(cfg, type=kind), default_args=fixed)
    return result


def as_targets(
    targets: Targets | None, size: Mapping[str, int], **parts: Any
) -> dict[str, ReconstructionTarget]:
    """Targets that are there already, or those of shorthands.

    Args:
        targets: Those of the model; None for a module that stands alone.
        size: As in :func:`build_targets`.
        **parts: As in :func:`resolve_targets`, shorthands only.

    Raises:
        TypeError: If there is another key than a shorthand, or a shorthand
            beside ``targets``.
    """
    for part, config in parts.items():
        known = SHORTHANDS[part] if targets is None else ()
        for key in config:
            if key not in known:
                near = suggest(key, SHORTHANDS[part]) or '.'
                raise UsageTypeError(
                    f'The {part} got an unexpected argument {key!r}{near}'
                )
    if targets is None:
        return build_targets(resolve_targets(**parts), **size)
    return dict(targets)


def without_shorthands(part: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what :func:`resolve_targets` has read.

    Args:
        part: ``'head'``, ``'neck'`` or ``'data_preprocessor'``.
        config: Of that part.
    """
    return {k: v for k, v in config.items() if k not in SHORTHANDS[part]}


def _shorthands(
    head: Mapping[str, Any] | None,
    neck: Mapping[str, Any] | None,
    data_preprocessor: Mapping[str, Any] | None,
) -> Iterator[tuple[str, str, str, Any]]:
    """Each as its place, name of the target, key and value."""
    for short, (name, key) in HEAD_SHORTHANDS.items():
        if short in (head or {}):
            yield f'head.{short}', name, key, (head or {})[short]
    difference = dict((data_preprocessor or {}).get('frame_difference') or {})
    kind = difference.pop('type', 'FrameDifference')
    kind = kind if isinstance(kind, str) else kind.__name__
    if kind.rsplit('.')[-1] != 'FrameDifference':
        raise UsageError(
            f'data_preprocessor.frame_difference is a {kind}; it can only be '
            'a FrameDifference. Another kind of motion is a target of its '
            'own: targets=dict(motion=dict(type=...)).'
        )
    for key, value in difference.items():
        place = f'data_preprocessor.frame_difference.{key}'
        yield place, 'motion', key, value
    for part, names in _names(neck, data_preprocessor):
        for name in DEFAULT_TARGETS.keys() - {*names}:
            yield f'{part}.targets', name, 'weight', 0


def _names(
    neck: Mapping[str, Any] | None, data_preprocessor: Mapping[str, Any] | None
) -> Iterator[tuple[str, Sequence[str]]]:
    """The parts that name targets, and what they name."""
    parts = dict(neck=neck, data_preprocessor=data_preprocessor)
    for part, config in parts.items():
        if config is not None and config.get('targets') is not None:
            yield part, config['targets']


def _complete(name: str, cfg: dict[str, Any]) -> None:
    """Add the type, if it is known; make sure that all is as it must be."""
    if (
        not isinstance(name, str)
        or not name.isidentifier()
        or name.endswith(('_reconstruction', '_map'))
    ):
        raise UsageError(
            f'{name!r} cannot be the name of a target: it has letters, digits '
            'and _ alone, and no _reconstruction or _map at its end.'
        )
    if name in RESERVED or hasattr(nn.ModuleDict, name):
        raise UsageError(
            f'{name!r} cannot be the name of a target, it means something '
            'else already; choose another.'
        )
    cfg.setdefault('type', DEFAULT_TARGETS.get(name, {}).get('type'))
    if cfg['type'] is None:
        raise UsageError(
            f'targets.{name} has no type: it is the config of a target, '
            "such as dict(type='PixelTarget')."
        )
    weight = cfg.get('weight', 1)
    if not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
        raise UsageError(
            f'The weight of target {name!r} must not be negative, and a '
            f'finite number: {weight!r}.'
        )
