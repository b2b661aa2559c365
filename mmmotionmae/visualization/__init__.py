# Copyright (c) MotionMAE contributors. All rights reserved.
from .overlay import (
    add_caption,
    contact_sheet,
    draw_contours,
    draw_keypoints,
    overlay_mask,
)
from .reconstruction import draw, motion_to_rgb, reconstruct

__all__ = [
    'add_caption',
    'contact_sheet',
    'draw',
    'draw_contours',
    'draw_keypoints',
    'motion_to_rgb',
    'overlay_mask',
    'reconstruct',
]
