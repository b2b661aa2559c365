# Copyright (c) MotionMAE contributors. All rights reserved.
"""Configs in checkpoints, read by MMEngine as data."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from ..utils.errors import CheckpointError
from ..utils.patching import once
from .metadata import parse_config_text
from .trust import is_trusted


@once
def read_configs_in_checkpoints_safely() -> None:
    """MMEngine runs the config that a checkpoint holds as Python source.

    ``BaseInferencer`` does so where it is given weights without a config: who
    wrote the file runs code. A config of plain data runs code too, for where
    a name is not registered, ``type='os.mkdir'`` means that function, and
    ``custom_imports`` are imported. Here the text is read as data, see
    :func:`parse_config_text`, what it names must be registered, and nothing
    is imported for it, unless :func:`trust_checkpoints` was called.

    Remove when: MMEngine reads these configs as data, and builds from them
    what is registered only.
    """
    from mmengine.config import ConfigDict
    from mmengine.infer import BaseInferencer
    from mmengine.infer import infer as module

    init, init_model = BaseInferencer.__init__, BaseInferencer._init_model

    @wraps(init)
    def init_safely(
        self: BaseInferencer, model: Any, *args: Any, **kwargs: Any
    ) -> None:
        if model is not None or is_trusted():
            init(self, model, *args, **kwargs)
            return
        with _registered_only():
            init(self, model, *args, **kwargs)

    @wraps(init_model)
    def init_model_safely(
        self: BaseInferencer, cfg: Any, weights: Any, *args: Any
    ) -> Any:
        if not cfg and weights is not None and not is_trusted():
            content = module._load_checkpoint(weights, map_location='cpu')
            hub = content.get('message_hub') or {}
            text = (hub.get('runtime_info') or {}).get('cfg')
            text = text or (content.get('meta') or {}).get('cfg')
            if not isinstance(text, str):
                raise CheckpointError(
                    f'{weights} holds no config: name the config file, too.'
                )
            try:
                config = parse_config_text(text)
                _check_names(config)
                cfg.update(ConfigDict(config))
            except ValueError as error:
                raise CheckpointError(
                    f'The config in {weights} is not plain data, and '
                    f'reading it would run code: {error}. Name the config '
                    'file, or, if you trust the source of the checkpoint, '
                    'call mmmotionmae.checkpoints.trust_checkpoints().'
                ) from error
        return init_model(self, cfg, weights, *args)

    BaseInferencer.__init__ = init_safely
    BaseInferencer._init_model = init_model_safely


@once
def resume_without_configs() -> None:
    """``Runner.resume`` runs the config of an old checkpoint to compare it.

    Old versions wrote it as ``meta['config']``. Here it is taken out, unless
    :func:`trust_checkpoints` was called.

    Remove when: MMEngine reads these configs as data.
    """
    from mmengine.runner import Runner

    load = Runner.load_checkpoint

    @wraps(load)
    def load_checkpoint(self: Runner, *args: Any, **kwargs: Any) -> Any:
        checkpoint = load(self, *args, **kwargs)
        drop_config(checkpoint)
        return checkpoint

    Runner.load_checkpoint = load_checkpoint


def drop_config(checkpoint: Any) -> None:
    """Take the old config out: ``resume`` runs it to compare GPUs.

    Args:
        checkpoint: What was loaded, changed in place; left alone if it is
            trusted, or no dict.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict) and not is_trusted():
        meta.pop('config', None)


def _check_names(value: Any) -> None:
    """Refuse what those that are registered run, or import from elsewhere.

    MMCV evaluates the ``type`` of a suppression of boxes; a file client
    imports from its ``sys_path``.

    Raises:
        ValueError: If there is such a thing.
    """
    if isinstance(value, dict):
        kind = value.get('type')
        if isinstance(kind, str) and not re.fullmatch(r'[\w.]+', kind):
            raise ValueError(f'type={kind!r} is no name')
        if value.get('sys_path') is not None:
            raise ValueError(f'sys_path={value["sys_path"]!r}')
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_names(item)


@contextmanager
def _registered_only() -> Iterator[None]:
    """Let a ``type`` mean what is registered, in OpenMMLab's packages."""
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.registry import registry

    find, load = registry.get_object_from_string, registry.import_module
    packages = {*MODULE2PACKAGE, 'mmengine', 'mmmotionmae'}

    def import_known(name: str) -> Any:
        if name.split('.')[0] not in packages:
            raise ImportError(f'{name} is none of {sorted(packages)}')
        return load(name)

    registry.get_object_from_string = lambda name: None
    registry.import_module = import_known
    try:
        yield
    finally:
        registry.get_object_from_string = find
        registry.import_module = load
