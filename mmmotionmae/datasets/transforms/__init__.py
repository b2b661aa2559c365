# Copyright (c) MotionMAE contributors. All rights reserved.
from .frame_difference import FrameDifference
from .loading import DecodeToMemory
from .masking import FrameMasking, RandomMasking, TubeMasking
from .seeding import SeedSample

__all__ = [
    'DecodeToMemory',
    'FrameDifference',
    'FrameMasking',
    'RandomMasking',
    'SeedSample',
    'TubeMasking',
]
