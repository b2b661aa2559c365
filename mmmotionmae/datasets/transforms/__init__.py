# Copyright (c) MotionMAE contributors. All rights reserved.
from .formatting import FormatClip
from .frame_difference import FrameDifference
from .loading import DecodeToMemory, VideoDecode, VideoInit
from .masking import FrameMasking, RandomMasking, TubeMasking
from .seeding import SeedSample
from .sequence import LoadMasks, LoadSequence, PackSequence

__all__ = [
    'DecodeToMemory',
    'FormatClip',
    'FrameDifference',
    'FrameMasking',
    'LoadMasks',
    'LoadSequence',
    'PackSequence',
    'RandomMasking',
    'SeedSample',
    'TubeMasking',
    'VideoDecode',
    'VideoInit',
]
