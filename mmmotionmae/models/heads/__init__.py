# Copyright (c) MotionMAE contributors. All rights reserved.
from .attentive_probe_head import AttentiveProbeHead
from .linear_probe_head import LinearProbeHead
from .motionmae_head import MotionMAEHead

__all__ = ['AttentiveProbeHead', 'LinearProbeHead', 'MotionMAEHead']
