# Copyright (c) MotionMAE contributors. All rights reserved.
from .hooks import BadVideosHook, SeedIterHook
from .samplers import SeededSampler

__all__ = ['BadVideosHook', 'SeedIterHook', 'SeededSampler']
