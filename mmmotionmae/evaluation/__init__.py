# Copyright (c) MotionMAE contributors. All rights reserved.
from ..utils.errors import ScoringError
from .davis_scoring import score_davis
from .metrics import (
    AccReportMetric,
    DAVISMetric,
    PCKMetric,
    ReconstructionMetric,
    SequenceMetric,
    VIPMetric,
)
from .reconstruction_scoring import score_reconstruction
from .video_evaluator import VideoEvaluator

__all__ = [
    'AccReportMetric',
    'DAVISMetric',
    'PCKMetric',
    'ReconstructionMetric',
    'ScoringError',
    'SequenceMetric',
    'VIPMetric',
    'VideoEvaluator',
    'score_davis',
    'score_reconstruction',
]
