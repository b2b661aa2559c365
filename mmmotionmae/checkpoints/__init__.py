# Copyright (c) MotionMAE contributors. All rights reserved.
"""Checkpoints of all formats: read, convert, resize, load, write."""

from ..utils.errors import CheckpointError
from .best_checkpoint import remove_own_checkpoints_only
from .building import build_model, describe_checkpoint
from .files import read_checkpoint, read_raw
from .formats import FORMATS
from .mmengine_configs import read_configs_in_checkpoints_safely
from .mmengine_loading import (
    load_checkpoints_safely,
    load_weights_strictly,
)
from .plain_files import load_plain, read_plain_files, tensor_from_array
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
from .strategies import close_strategies
from .strict import load_strictly
from .trust import close_torch_load, trust_checkpoints
from .writing import write_checkpoint

__all__ = [
    'FORMATS',
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


def install() -> None:
    """Let MMEngine load checkpoints safely and strictly.

    Whatever loads one: a runner, ``init_cfg``, an inferencer. Safe to call
    more than once; ``import mmmotionmae`` does so.
    """
    close_torch_load()
    load_checkpoints_safely()
    load_weights_strictly()
    read_configs_in_checkpoints_safely()
    close_strategies()
    read_plain_files()
    remove_own_checkpoints_only()
