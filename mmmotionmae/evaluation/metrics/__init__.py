# Copyright (c) MotionMAE contributors. All rights reserved.
from .davis_metric import DAVISMetric
from .pck_metric import PCKMetric
from .sequence_metric import SequenceMetric
from .vip_metric import VIPMetric

__all__ = [
    'DAVISMetric',
    'PCKMetric',
    'SequenceMetric',
    'VIPMetric',
]
