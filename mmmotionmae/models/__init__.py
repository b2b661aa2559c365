# Copyright (c) MotionMAE contributors. All rights reserved.
from .backbones import MotionMAEViT
from .data_preprocessors import MotionMAEDataPreprocessor
from .heads import MotionMAEHead
from .losses import MaskedReconstructionLoss
from .motionmae import MotionMAE
from .necks import MotionMAEDecoder

__all__ = [
    'MaskedReconstructionLoss',
    'MotionMAE',
    'MotionMAEDataPreprocessor',
    'MotionMAEDecoder',
    'MotionMAEHead',
    'MotionMAEViT',
]
