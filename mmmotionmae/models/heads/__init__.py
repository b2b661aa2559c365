# Copyright (c) MotionMAE contributors. All rights reserved.
from .motionmae_head import MotionMAEHead

__all__ = ['MotionMAEHead']
