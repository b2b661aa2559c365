# Copyright (c) MotionMAE contributors. All rights reserved.
from .inferencer import MotionMAEInferencer
from .inputs import VideoInput, list_inputs

__all__ = ['MotionMAEInferencer', 'VideoInput', 'list_inputs']
