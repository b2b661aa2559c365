# Copyright (c) MotionMAE contributors. All rights reserved.
from .hooks import (
    AverageLogsHook,
    BadVideosHook,
    CheckFiniteHook,
    CompileBlocksHook,
    DeferredRuntimeInfoHook,
    ExportBackboneHook,
    LoaderWaitHook,
    PreemptionHook,
    ReconstructionHook,
    ResumeHook,
    SeedIterHook,
    SequenceResultsHook,
    SequenceVisualizationHook,
    TargetWarmupHook,
    TimedCheckpointHook,
)
from .loops import (
    AmpTestLoop,
    ReconstructionValLoop,
    ResumableEpochLoop,
    ResumableIterLoop,
    ResumableTestLoop,
)
from .samplers import RemainingSampler, SeededSampler, SkippingBatchSampler
from .strategies import FSDP2Strategy

__all__ = [
    'AmpTestLoop',
    'AverageLogsHook',
    'BadVideosHook',
    'CheckFiniteHook',
    'CompileBlocksHook',
    'DeferredRuntimeInfoHook',
    'ExportBackboneHook',
    'FSDP2Strategy',
    'LoaderWaitHook',
    'PreemptionHook',
    'ReconstructionHook',
    'ReconstructionValLoop',
    'RemainingSampler',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'ResumableTestLoop',
    'ResumeHook',
    'SeedIterHook',
    'SequenceResultsHook',
    'SequenceVisualizationHook',
    'SeededSampler',
    'SkippingBatchSampler',
    'TimedCheckpointHook',
    'TargetWarmupHook',
]
