# Copyright (c) MotionMAE contributors. All rights reserved.
from ..utils.errors import ScoringError
from .davis_scoring import score_davis
from .metrics import DAVISMetric, PCKMetric, SequenceMetric, VIPMetric
from .video_evaluator import VideoEvaluator

__all__ = [
    'DAVISMetric',
    'PCKMetric',
    'ScoringError',
    'SequenceMetric',
    'VIPMetric',
    'VideoEvaluator',
    'score_davis',
]
