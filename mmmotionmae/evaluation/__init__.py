# Copyright (c) MotionMAE contributors. All rights reserved.
from .video_evaluator import VideoEvaluator

__all__ = ['VideoEvaluator']
