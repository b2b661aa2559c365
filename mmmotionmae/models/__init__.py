# Copyright (c) MotionMAE contributors. All rights reserved.
from .backbones import FusedVisionTransformer, MotionMAEViT
from .data_preprocessors import (
    AugmentingDataPreprocessor,
    MotionMAEDataPreprocessor,
)
from .heads import MotionMAEHead
from .losses import MaskedReconstructionLoss
from .motionmae import MotionMAE
from .necks import MotionMAEDecoder

__all__ = [
    'AugmentingDataPreprocessor',
    'FusedVisionTransformer',
    'MaskedReconstructionLoss',
    'MotionMAE',
    'MotionMAEDataPreprocessor',
    'MotionMAEDecoder',
    'MotionMAEHead',
    'MotionMAEViT',
]
