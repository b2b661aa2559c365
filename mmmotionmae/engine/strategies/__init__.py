# Copyright (c) MotionMAE contributors. All rights reserved.
"""Ways to train on many devices, for MMEngine's ``FlexibleRunner``."""

from .fsdp2_strategy import FSDP2Strategy

__all__ = ['FSDP2Strategy']
