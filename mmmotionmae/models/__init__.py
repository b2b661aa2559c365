# Copyright (c) MotionMAE contributors. All rights reserved.
from .backbones import (
    FusedVisionTransformer,
    MotionMAEViT,
    RawPixels,
    VideoEncoder,
)
from .data_preprocessors import (
    AugmentingDataPreprocessor,
    MotionMAEDataPreprocessor,
    SequenceDataPreprocessor,
)
from .heads import AttentiveProbeHead, LinearProbeHead, MotionMAEHead
from .losses import GradientBalance, MaskedReconstructionLoss
from .motionmae import MotionMAE
from .necks import MotionMAEDecoder
from .targets import ReconstructionTarget, TubeletTarget
from .vos import (
    CopyFirstMask,
    GridOracle,
    KeypointCodec,
    LabelPropagation,
    SegmentationCodec,
)

__all__ = [
    'AttentiveProbeHead',
    'AugmentingDataPreprocessor',
    'CopyFirstMask',
    'FusedVisionTransformer',
    'GradientBalance',
    'GridOracle',
    'KeypointCodec',
    'LabelPropagation',
    'LinearProbeHead',
    'MaskedReconstructionLoss',
    'MotionMAE',
    'MotionMAEDataPreprocessor',
    'MotionMAEDecoder',
    'MotionMAEHead',
    'MotionMAEViT',
    'RawPixels',
    'ReconstructionTarget',
    'SegmentationCodec',
    'SequenceDataPreprocessor',
    'TubeletTarget',
    'VideoEncoder',
]
