# Copyright (c) MotionMAE contributors. All rights reserved.
from .hooks import SeedIterHook
from .samplers import SeededSampler

__all__ = ['SeedIterHook', 'SeededSampler']
