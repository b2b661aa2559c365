# Copyright (c) MotionMAE contributors. All rights reserved.
from .masks import score_davis
from .metrics import DAVISMetric, PCKMetric, SequenceMetric, VIPMetric
from .pool import ScoringError
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
