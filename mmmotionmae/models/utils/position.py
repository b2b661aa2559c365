# Copyright (c) MotionMAE contributors. All rights reserved.
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .tubelet import Grid


def interpolate_positions(positions: Tensor, old: Grid, new: Grid) -> Tensor:
    """Fit a table of positions to another token grid.

    Bicubic in space, slot by slot, as MMAction2's ``VisionTransformer``, MAE
    and DINO do it; then linear in time.

    Args:
        positions: (1, L, D), in token order.
        old: (t, h, w), the grid that they are of, t*h*w = L.
        new: (t, h, w), the grid wanted.

    Returns:
        (1, L', D). ``positions`` itself if the grid is the same.
    """
    if new[1:] != old[1:]:
        table = rearrange(
            positions, '1 (t h w) d -> t d h w', h=old[1], w=old[2]
        )
        table = F.interpolate(table, new[1:], mode='bicubic')
        positions = rearrange(table, 't d h w -> 1 (t h w) d')
    if new[0] != old[0]:
        table = rearrange(positions, '1 (t l) d -> l d t', t=old[0])
        table = F.interpolate(table, new[0], mode='linear')
        positions = rearrange(table, 'l d t -> 1 (t l) d')
    return positions
