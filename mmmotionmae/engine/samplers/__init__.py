# Copyright (c) MotionMAE contributors. All rights reserved.
from ...utils.seeding import SampleIndex
from .remaining_sampler import RemainingSampler
from .seeded_sampler import SeededSampler
from .skipping_batch_sampler import SkippingBatchSampler

__all__ = [
    'RemainingSampler',
    'SampleIndex',
    'SeededSampler',
    'SkippingBatchSampler',
]
