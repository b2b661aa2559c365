# Copyright (c) MotionMAE contributors. All rights reserved.
from .seeded_sampler import SampleIndex, SeededSampler

__all__ = ['SampleIndex', 'SeededSampler']
