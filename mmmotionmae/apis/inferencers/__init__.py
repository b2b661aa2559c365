# Copyright (c) MotionMAE contributors. All rights reserved.
from .inputs import VideoInput, list_inputs
from .motionmae_inferencer import MotionMAEInferencer

__all__ = ['MotionMAEInferencer', 'VideoInput', 'list_inputs']
