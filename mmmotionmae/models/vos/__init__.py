# Copyright (c) MotionMAE contributors. All rights reserved.
from .affinity import Propagation
from .baselines import CopyFirstMask, GridOracle
from .features import ViTFeatures
from .keypoint_codec import KeypointCodec
from .label_propagation import LabelPropagation
from .segmentation_codec import SegmentationCodec

__all__ = [
    'CopyFirstMask',
    'GridOracle',
    'KeypointCodec',
    'LabelPropagation',
    'Propagation',
    'SegmentationCodec',
    'ViTFeatures',
]
