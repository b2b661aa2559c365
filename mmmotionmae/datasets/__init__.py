# Copyright (c) MotionMAE contributors. All rights reserved.
from ..utils.errors import TooManyBadVideosError
from .robust_video_dataset import RobustVideoDataset
from .sequences import (
    DAVISDataset,
    JHMDBDataset,
    SequenceDataset,
    VIPDataset,
)
from .transforms import (
    DecodeToMemory,
    FormatClip,
    FrameDifference,
    FrameMasking,
    LoadMasks,
    LoadSequence,
    PackSequence,
    RandomMasking,
    SeedSample,
    TubeMasking,
    VideoDecode,
    VideoInit,
)

__all__ = [
    'DAVISDataset',
    'DecodeToMemory',
    'FormatClip',
    'FrameDifference',
    'FrameMasking',
    'JHMDBDataset',
    'LoadMasks',
    'LoadSequence',
    'PackSequence',
    'RandomMasking',
    'RobustVideoDataset',
    'SeedSample',
    'SequenceDataset',
    'TooManyBadVideosError',
    'TubeMasking',
    'VIPDataset',
    'VideoDecode',
    'VideoInit',
]
