# Copyright (c) MotionMAE contributors. All rights reserved.
from ..utils.errors import UsageError
from .features import evaluate_features, extract_features, read_features
from .inferencer import MotionMAEInferencer
from .pretrained import load_pretrained
from .runner import build_runner, load_config

__all__ = [
    'MotionMAEInferencer',
    'UsageError',
    'build_runner',
    'evaluate_features',
    'extract_features',
    'load_config',
    'load_pretrained',
    'read_features',
]
