# Copyright (c) MotionMAE contributors. All rights reserved.
from .motionmae_decoder import MotionMAEDecoder

__all__ = ['MotionMAEDecoder']
