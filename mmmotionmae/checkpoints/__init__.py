# Copyright (c) MotionMAE contributors. All rights reserved.
"""Checkpoints of all formats: read, convert, resize, load, write."""

from ..utils.errors import CheckpointError
from .building import build_model, model_config
from .description import describe_checkpoint
from .formats import FORMATS
from .reading import read_checkpoint, read_raw
from .resizing import resize_checkpoint
from .specs import (
    Checkpoint,
    DecoderSpec,
    EncoderSpec,
    Hints,
    RawCheckpoint,
)
from .strict import load_strictly
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
    'load_strictly',
    'model_config',
    'read_checkpoint',
    'read_raw',
    'resize_checkpoint',
    'write_checkpoint',
]
