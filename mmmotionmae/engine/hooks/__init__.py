# Copyright (c) MotionMAE contributors. All rights reserved.
from .bad_videos_hook import BadVideosHook
from .compile_blocks_hook import CompileBlocksHook
from .deferred_runtime_info_hook import DeferredRuntimeInfoHook
from .export_backbone_hook import ExportBackboneHook
from .seed_iter_hook import SeedIterHook
from .sequence_results_hook import SequenceResultsHook
from .sequence_visualization_hook import SequenceVisualizationHook
from .target_warmup_hook import TargetWarmupHook

__all__ = [
    'BadVideosHook',
    'CompileBlocksHook',
    'DeferredRuntimeInfoHook',
    'ExportBackboneHook',
    'SeedIterHook',
    'SequenceResultsHook',
    'SequenceVisualizationHook',
    'TargetWarmupHook',
]
