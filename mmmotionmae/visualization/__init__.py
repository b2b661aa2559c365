# Copyright (c) MotionMAE contributors. All rights reserved.
from .attention_rows import attention_rows
from .heat_map import heat_map
from .overlay import (
    ColourBar,
    add_caption,
    contact_sheet,
    draw_contours,
    draw_keypoints,
    overlay_mask,
)
from .reconstruction import Reconstruction, reconstruct, reconstruct_batch
from .reconstruction_sheet import (
    draw,
    draw_film,
    draw_sheet,
    enlarge,
    reconstruction_rows,
    statistics_note,
)

__all__ = [
    'ColourBar',
    'Reconstruction',
    'add_caption',
    'attention_rows',
    'contact_sheet',
    'draw',
    'draw_contours',
    'draw_film',
    'draw_keypoints',
    'draw_sheet',
    'enlarge',
    'heat_map',
    'overlay_mask',
    'reconstruct',
    'reconstruct_batch',
    'reconstruction_rows',
    'statistics_note',
]
