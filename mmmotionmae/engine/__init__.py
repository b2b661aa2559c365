# Copyright (c) MotionMAE contributors. All rights reserved.
from .hooks import (
    BadVideosHook,
    CompileBlocksHook,
    DeferredRuntimeInfoHook,
    SeedIterHook,
    SequenceResultsHook,
    SequenceVisualizationHook,
)
from .samplers import SeededSampler

__all__ = [
    'BadVideosHook',
    'CompileBlocksHook',
    'DeferredRuntimeInfoHook',
    'SeedIterHook',
    'SequenceResultsHook',
    'SequenceVisualizationHook',
    'SeededSampler',
]
