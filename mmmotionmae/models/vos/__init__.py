# Copyright (c) MotionMAE contributors. All rights reserved.
from .baselines import CopyFirstMask, GridOracle
from .features import ViTFeatures
from .keypoints import KeypointCodec
from .label_propagation import LabelPropagation
from .propagation import Propagation
from .segmentation import SegmentationCodec

__all__ = [
    'CopyFirstMask',
    'GridOracle',
    'KeypointCodec',
    'LabelPropagation',
    'Propagation',
    'SegmentationCodec',
    'ViTFeatures',
]
