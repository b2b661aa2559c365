# Copyright (c) MotionMAE contributors. All rights reserved.
from .average_logs_hook import AverageLogsHook
from .bad_videos_hook import BadVideosHook
from .check_finite_hook import CheckFiniteHook
from .compile_blocks_hook import CompileBlocksHook
from .deferred_runtime_info_hook import DeferredRuntimeInfoHook
from .export_backbone_hook import ExportBackboneHook
from .loader_wait_hook import LoaderWaitHook
from .preemption_hook import PreemptionHook
from .reconstruction_hook import ReconstructionHook
from .resume_hook import ResumeHook
from .seed_iter_hook import SeedIterHook
from .sequence_results_hook import SequenceResultsHook
from .sequence_visualization_hook import SequenceVisualizationHook
from .target_warmup_hook import TargetWarmupHook
from .timed_checkpoint_hook import TimedCheckpointHook

__all__ = [
    'AverageLogsHook',
    'BadVideosHook',
    'CheckFiniteHook',
    'CompileBlocksHook',
    'DeferredRuntimeInfoHook',
    'ExportBackboneHook',
    'LoaderWaitHook',
    'PreemptionHook',
    'ReconstructionHook',
    'ResumeHook',
    'SeedIterHook',
    'SequenceResultsHook',
    'SequenceVisualizationHook',
    'TimedCheckpointHook',
    'TargetWarmupHook',
]
