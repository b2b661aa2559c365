# Copyright (c) MotionMAE contributors. All rights reserved.
"""Moving Shapes: small synthetic videos whose class is their motion.

A shape moves over a background. Shape, colours, textures, size, orientation
and position are drawn independently of the motion, so a single frame does not
tell the direction of motion. Two exceptions follow from the
motions themselves: rotation never uses the disc, and in ``approach`` and
``recede`` the size is distributed alike only at the middle of the video.

``LEVELS`` grade the difficulty: 0, one flat colour over a smooth gradient; 1,
textures of one palette on everything; 2, a moving camera, clutter, and things
that look like the object; 3, occlusion, changing light, and noise.
"""

from ...utils.choices import DIRECTIONS, MOTIONS
from ...utils.video_files import write_video
from .files import write_dataset
from .rendering import render
from .sampling import sample_scene, sample_vos_scene
from .scenes import (
    LEVELS,
    SHAPES,
    Level,
    Light,
    MovingObject,
    Scene,
    Texture,
)

__all__ = [
    'DIRECTIONS',
    'LEVELS',
    'MOTIONS',
    'SHAPES',
    'Level',
    'Light',
    'MovingObject',
    'Scene',
    'Texture',
    'render',
    'sample_scene',
    'sample_vos_scene',
    'write_dataset',
    'write_video',
]
