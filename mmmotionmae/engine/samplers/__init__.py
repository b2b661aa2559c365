# Copyright (c) MotionMAE contributors. All rights reserved.
from ...utils.seeding import SampleIndex
from .remaining_sampler import RemainingSampler
from .seeded_sampler import SeededSampler

__all__ = ['RemainingSampler', 'SampleIndex', 'SeededSampler']
