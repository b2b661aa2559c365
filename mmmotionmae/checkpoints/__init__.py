# Copyright (c) MotionMAE contributors. All rights reserved.
"""Checkpoints of all formats: read, convert, resize, load, write."""

from typing import TYPE_CHECKING

from ..utils.errors import CheckpointError
from ..utils.imports import names_from, patch_after_import

if TYPE_CHECKING:
    from .building import build_model, describe_checkpoint
    from .files import read_checkpoint, read_raw
    from .formats import FORMATS
    from .plain_files import load_plain, tensor_from_array
    from .resizing import resize_checkpoint
    from .shipped import (
        locate_checkpoint,
        refuse_missing_checkpoint,
        shipped_weights,
    )
    from .specs import (
        Checkpoint,
        DecoderSpec,
        EncoderSpec,
        Hints,
        RawCheckpoint,
        model_config,
    )
    from .strict import load_strictly
    from .trust import trust_checkpoints
    from .writing import write_checkpoint

__all__ = [
    'FORMATS',
    'PATCHES',
    'Checkpoint',
    'CheckpointError',
    'DecoderSpec',
    'EncoderSpec',
    'Hints',
    'RawCheckpoint',
    'build_model',
    'describe_checkpoint',
    'install',
    'load_plain',
    'load_strictly',
    'locate_checkpoint',
    'model_config',
    'read_checkpoint',
    'read_raw',
    'refuse_missing_checkpoint',
    'resize_checkpoint',
    'shipped_weights',
    'tensor_from_array',
    'trust_checkpoints',
    'write_checkpoint',
]

_HOMES = dict(
    Checkpoint='specs',
    DecoderSpec='specs',
    EncoderSpec='specs',
    FORMATS='formats',
    Hints='specs',
    RawCheckpoint='specs',
    build_model='building',
    describe_checkpoint='building',
    load_plain='plain_files',
    load_strictly='strict',
    locate_checkpoint='shipped',
    model_config='specs',
    read_checkpoint='files',
    read_raw='files',
    refuse_missing_checkpoint='shipped',
    resize_checkpoint='resizing',
    shipped_weights='shipped',
    tensor_from_array='plain_files',
    trust_checkpoints='trust',
    write_checkpoint='writing',
)

# What is waited for, and what is called then; see ``compat``.
PATCHES = (
    ('torch', 'trust.close_torch_load'),
    ('mmengine', 'plain_files.read_plain_files'),
    ('mmengine.utils.dl_utils', 'mmengine_loading.load_from_web_safely'),
    ('mmengine.model.weight_init', 'mmengine_loading.initialise_strictly'),
    (
        'mmengine.hooks.checkpoint_hook',
        'best_checkpoint.remove_own_checkpoints_only',
    ),
    ('mmengine._strategy.base', 'strategies.close_strategies'),
    *(
        (f'mmengine._strategy.{name}', 'strategies.close_mended_strategies')
        for name in ('single_device', 'deepspeed')
    ),
    ('mmengine.runner.checkpoint', 'mmengine_loading.load_checkpoints_safely'),
    ('mmengine.runner.checkpoint', 'mmengine_loading.load_weights_strictly'),
    ('mmengine.runner', 'mmengine_loading.name_needed_parts'),
    ('mmengine.runner', 'mmengine_configs.resume_without_configs'),
    ('mmengine.infer', 'mmengine_configs.read_configs_in_checkpoints_safely'),
)

__getattr__ = names_from(__name__, _HOMES)


def install() -> None:
    """Let MMEngine load checkpoints safely and strictly.

    Whatever loads one: a runner, ``init_cfg``, an inferencer. ``import
    mmmotionmae`` does so, and it holds as soon as somebody has imported what
    loads.
    """
    patch_after_import(__name__, PATCHES)
