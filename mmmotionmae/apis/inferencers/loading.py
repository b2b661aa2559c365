# Copyright (c) MotionMAE contributors. All rights reserved.
"""The model of an inferencer.

A checkpoint file of MMEngine holds the text of its config. That text is
Python, and MMEngine's own inferencer runs it; here nothing that a checkpoint
holds is ever run.
"""

import copy
import logging
import os
import os.path as osp
from dataclasses import fields, replace
from typing import Any

from mmaction.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from ...checkpoints import Hints, read_checkpoint
from ...utils.errors import CheckpointError, UsageError
from ..features.model import Encoder, find_encoder
from ..launch import load_config
from ..pretrained import load_pretrained

CONFIG_EXTENSIONS = ('.py', '.json', '.yaml', '.yml')

ModelSource = str | os.PathLike[str] | dict | nn.Module | None


def load_model(
    model: ModelSource,
    weights: str | os.PathLike[str] | None = None,
    options: dict[str, Any] | None = None,
    scope: str = 'mmaction',
) -> tuple[nn.Module, ConfigDict]:
    """Build or load a model.

    Args:
        model: A config file, a config (with ``model``) or the settings of a
            model; a checkpoint file or folder of any format that
            :func:`load_pretrained` reads; or a model. None: ``weights`` is
            the checkpoint.
        weights: The checkpoint of a config's model, written by MMEngine.
            None: the model is random, which is said in the log.
        options: For :func:`load_pretrained`, such as ``num_frames``,
            ``img_size``, ``num_heads``.
        scope: Where names in a config are looked up.

    Returns:
        The model, in evaluation mode, and its config, empty if there is none.

    Raises:
        UsageError: If there is no such file, or the arguments do not go
            together.
        CheckpointError: If the checkpoint cannot be read or does not fit.
    """
    if model is None:
        if weights is None:
            raise UsageError('Neither a model nor weights are given.')
        model, weights = weights, None
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        if path.lower().endswith(CONFIG_EXTENSIONS):
            model = load_config(path)
        elif '://' not in path and not osp.exists(path):
            raise UsageError(
                f'There is no config or checkpoint {path!r}; a config ends '
                f'in {", ".join(CONFIG_EXTENSIONS)}.'
            )
        else:
            _refuse(weights, 'weights', f'the checkpoint {path!r}')
            return load_pretrained(path, **options or {}), ConfigDict()
    _refuse(options, 'load_options', 'a model that is built from a config')
    if isinstance(model, nn.Module):
        _refuse(weights, 'weights', 'a model that is built already')
        return model.eval(), ConfigDict()
    if not isinstance(model, (dict, Config)):
        raise UsageError(
            f'model is a {type(model).__name__}; it must be the path of a '
            'config or checkpoint, a config, or a model.'
        )
    cfg = copy.deepcopy(model)
    if 'model' not in cfg:
        cfg = dict(model=dict(cfg))
    if not isinstance(cfg, Config):
        cfg = ConfigDict(cfg)
    return _build(cfg, weights, scope), cfg


def _refuse(value: Any, name: str, what: str) -> None:
    if value:
        raise UsageError(f'{name} make no sense with {what}.')


def _build(
    cfg: Config | ConfigDict,
    weights: str | os.PathLike[str] | None,
    scope: str,
) -> nn.Module:
    if 'type' not in cfg.model:
        raise UsageError('The config names no model: it has no model.type.')
    with DefaultScope.overwrite_default_scope(scope):
        module = MODELS.build(cfg.model)
    if weights is None:
        print_log(
            'No weights are given: the model is random, and so is what it '
            'predicts.',
            logger='current',
            level=logging.WARNING,
        )
        return module.eval()
    path = os.fspath(weights)
    if '://' not in path and not osp.exists(path):
        raise UsageError(f'There is no checkpoint {path!r}.')
    try:
        load_checkpoint(module, path, map_location='cpu', strict=True)
    except RuntimeError as error:
        if isinstance(error, CheckpointError):
            raise
        lines = [line.strip() for line in str(error).splitlines()]
        shown = next((line for line in lines[1:] if line), lines[0])
        raise CheckpointError(
            f'{path} does not fit the model of the config: {shown[:300]}'
        ) from error
    return module.eval()


def encoder_of(
    module: nn.Module,
    model: ModelSource,
    options: dict[str, Any] | None = None,
) -> Encoder:
    """The encoder of a model, and how its clips are normalised.

    Args:
        module: The model that :func:`load_model` returns.
        model: What it was made of. An encoder alone does not know how clips
            are normalised; if it comes from a checkpoint, that does.
        options: As in :func:`load_model`.

    Raises:
        UsageError: If it is no ``VisionTransformer`` of MMAction2.
    """
    encoder = find_encoder(module)
    if encoder.vit is not module or not isinstance(model, (str, os.PathLike)):
        return encoder
    path = os.fspath(model)
    if path.lower().endswith(CONFIG_EXTENSIONS):
        return encoder
    options = options or {}
    hints = {field.name for field in fields(Hints)} - {'encoder_only'}
    checkpoint = read_checkpoint(
        path,
        encoder_only=True,
        **{name: options[name] for name in hints if name in options},
    )
    return replace(
        encoder, mean=tuple(checkpoint.mean), std=tuple(checkpoint.std)
    )
