# Copyright (c) MotionMAE contributors. All rights reserved.
from .base import ReconstructionTarget
from .drawing import diverging_colours, draw_frames, draw_signed
from .flow_target import FlowTarget, OpticalFlow
from .frame_difference_target import (
    FrameDifferenceTarget,
    check_frame_difference,
    frame_difference,
    motion_map,
    motion_scale,
)
from .hog_target import HOGTarget
from .noise import noise_level
from .oracle import interpolate_target
from .pixel_target import PixelTarget
from .shorthands import (
    DEFAULT_TARGETS,
    as_targets,
    build_targets,
    resolve_targets,
    without_shorthands,
)
from .tubelet_difference_target import TubeletDifferenceTarget
from .tubelet_target import TubeletTarget
from .values import NORMS, TargetValues, in_pixel_range

__all__ = [
    'DEFAULT_TARGETS',
    'NORMS',
    'FlowTarget',
    'FrameDifferenceTarget',
    'HOGTarget',
    'OpticalFlow',
    'PixelTarget',
    'ReconstructionTarget',
    'TargetValues',
    'TubeletDifferenceTarget',
    'TubeletTarget',
    'as_targets',
    'build_targets',
    'check_frame_difference',
    'diverging_colours',
    'draw_frames',
    'draw_signed',
    'frame_difference',
    'in_pixel_range',
    'interpolate_target',
    'motion_map',
    'motion_scale',
    'noise_level',
    'resolve_targets',
    'without_shorthands',
]
