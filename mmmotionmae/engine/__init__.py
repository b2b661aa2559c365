# Copyright (c) MotionMAE contributors. All rights reserved.
from .hooks import (
    BadVideosHook,
    CompileBlocksHook,
    DeferredRuntimeInfoHook,
    ExportBackboneHook,
    SeedIterHook,
    SequenceResultsHook,
    SequenceVisualizationHook,
    TargetWarmupHook,
)
from .loops import AmpTestLoop, ReconstructionValLoop, ResumableTestLoop
from .samplers import RemainingSampler, SeededSampler

__all__ = [
    'AmpTestLoop',
    'BadVideosHook',
    'CompileBlocksHook',
    'DeferredRuntimeInfoHook',
    'ExportBackboneHook',
    'ReconstructionValLoop',
    'RemainingSampler',
    'ResumableTestLoop',
    'SeedIterHook',
    'SequenceResultsHook',
    'SequenceVisualizationHook',
    'SeededSampler',
    'TargetWarmupHook',
]
