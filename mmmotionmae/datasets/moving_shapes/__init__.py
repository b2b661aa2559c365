# Copyright (c) MotionMAE contributors. All rights reserved.
"""Moving Shapes: small synthetic videos whose class is their motion.

A solid shape moves over a smooth background. Shape, colours, size,
orientation and position are drawn independently of the motion, so a single
frame does not tell the direction of motion. Two exceptions follow from the
motions themselves: rotation never uses the disc, and in ``approach`` and
``recede`` the size is distributed alike only at the middle of the video.
"""

from ...utils.video_files import write_video
from .files import write_dataset
from .scenes import (
    DIRECTIONS,
    MOTIONS,
    SHAPES,
    MovingObject,
    Scene,
    render,
    sample_scene,
    sample_vos_scene,
)

__all__ = [
    'DIRECTIONS',
    'MOTIONS',
    'SHAPES',
    'MovingObject',
    'Scene',
    'render',
    'sample_scene',
    'sample_vos_scene',
    'write_dataset',
    'write_video',
]
