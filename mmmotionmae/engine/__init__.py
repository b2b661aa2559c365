# Copyright (c) MotionMAE contributors. All rights reserved.
from .hooks import (
    AverageLogsHook,
    BadVideosHook,
    CheckFiniteHook,
    CompileBlocksHook,
    DeferredRuntimeInfoHook,
    ExportBackboneHook,
    SeedIterHook,
    SequenceResultsHook,
    SequenceVisualizationHook,
)
from .loops import AmpTestLoop, ResumableTestLoop
from .samplers import RemainingSampler, SeededSampler

__all__ = [
    'AmpTestLoop',
    'AverageLogsHook',
    'BadVideosHook',
    'CheckFiniteHook',
    'CompileBlocksHook',
    'DeferredRuntimeInfoHook',
    'ExportBackboneHook',
    'RemainingSampler',
    'ResumableTestLoop',
    'SeedIterHook',
    'SequenceResultsHook',
    'SequenceVisualizationHook',
    'SeededSampler',
]
