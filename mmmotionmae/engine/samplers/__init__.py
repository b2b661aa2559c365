# Copyright (c) MotionMAE contributors. All rights reserved.
from .remaining_sampler import RemainingSampler
from .seeded_sampler import SampleIndex, SeededSampler

__all__ = ['RemainingSampler', 'SampleIndex', 'SeededSampler']
