# Copyright (c) MotionMAE contributors. All rights reserved.
from .robust_video_dataset import RobustVideoDataset
from .transforms import (
    DecodeToMemory,
    FrameDifference,
    FrameMasking,
    RandomMasking,
    SeedSample,
    TubeMasking,
)

__all__ = [
    'DecodeToMemory',
    'FrameDifference',
    'FrameMasking',
    'RandomMasking',
    'RobustVideoDataset',
    'SeedSample',
    'TubeMasking',
]
