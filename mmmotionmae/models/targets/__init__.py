# Copyright (c) MotionMAE contributors. All rights reserved.
from .base import STATISTICS, ReconstructionTarget, draw_frames
from .frame_difference_target import (
    FrameDifferenceTarget,
    check_frame_difference,
    frame_difference,
    motion_map,
    motion_scale,
    motion_to_rgb,
)
from .pixel_target import PixelTarget
from .shorthands import (
    DEFAULT_TARGETS,
    as_targets,
    build_targets,
    resolve_targets,
    without_shorthands,
)
from .tubelet_target import TubeletTarget
from .values import NORMS, TargetValues, in_pixel_range

__all__ = [
    'DEFAULT_TARGETS',
    'NORMS',
    'STATISTICS',
    'FrameDifferenceTarget',
    'PixelTarget',
    'ReconstructionTarget',
    'TargetValues',
    'TubeletTarget',
    'as_targets',
    'build_targets',
    'check_frame_difference',
    'draw_frames',
    'frame_difference',
    'in_pixel_range',
    'motion_map',
    'motion_scale',
    'motion_to_rgb',
    'resolve_targets',
    'without_shorthands',
]
