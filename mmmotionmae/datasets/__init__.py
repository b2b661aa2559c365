# Copyright (c) MotionMAE contributors. All rights reserved.
from .robust_video_dataset import RobustVideoDataset, TooManyBadVideosError
from .transforms import (
    DecodeToMemory,
    FormatClip,
    FrameDifference,
    FrameMasking,
    RandomMasking,
    SeedSample,
    TubeMasking,
    VideoDecode,
    VideoInit,
)

__all__ = [
    'DecodeToMemory',
    'FormatClip',
    'FrameDifference',
    'FrameMasking',
    'RandomMasking',
    'RobustVideoDataset',
    'SeedSample',
    'TooManyBadVideosError',
    'TubeMasking',
    'VideoDecode',
    'VideoInit',
]
