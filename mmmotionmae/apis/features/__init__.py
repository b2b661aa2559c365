# Copyright (c) MotionMAE contributors. All rights reserved.
from .evaluation import evaluate_features
from .extraction import extract_features
from .files import Features, read_features

__all__ = [
    'Features',
    'evaluate_features',
    'extract_features',
    'read_features',
]
