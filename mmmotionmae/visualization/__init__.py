# Copyright (c) MotionMAE contributors. All rights reserved.
from .reconstruction import draw, motion_to_rgb, reconstruct

__all__ = ['draw', 'motion_to_rgb', 'reconstruct']
