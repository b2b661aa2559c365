# Copyright (c) MotionMAE contributors. All rights reserved.
"""Decoder masking (VideoMAE V2, https://arxiv.org/abs/2303.16727, 3.2).

Shapes: B clips; t h w the token grid, L = t*h*w tokens, M of them masked.
"""

import torch
from einops import rearrange
from torch import Tensor

from .tubelet import Grid

CELL = 4  # places in a cell of 2x2


def running_cell(grid: Grid, ratio: float, phase: Tensor) -> Tensor:
    """Leave out the same places of every cell of 2x2, others in each slot.

    From slot to slot the places move on by one, so that over four slots each
    is left out equally often. As in VideoMAE V2's code
    (``dataset/masking_generator.py``), for grids of odd sides, too.

    Args:
        grid: (t, h, w).
        ratio: Share that is left out: 1/4, 1/2 or 3/4.
        phase: (B, ), int64: by how many places a clip is ahead.

    Returns:
        (B, L), bool, True = left out.

    Raises:
        ValueError: If the ratio is none of these.

    Examples:
        >>> running_cell((2, 2, 2), 0.5, torch.zeros(1, dtype=int)).int()
        tensor([[1, 1, 0, 0, 1, 0, 0, 1]], dtype=torch.int32)
    """
    check_ratio(ratio)
    t, y, x = torch.meshgrid(*map(torch.arange, grid), indexing='ij')
    place = (2 * (y % 2) + x % 2 + t).flatten()
    place = rearrange(place, 'n -> 1 n') + rearrange(phase, 'b -> b 1')
    return place % CELL < ratio * CELL


def check_ratio(ratio: float) -> None:
    """Make sure that a cell can be divided like that.

    Raises:
        ValueError: If not.
    """
    if ratio * CELL not in range(1, CELL):
        raise ValueError(
            f'decoder_mask_ratio must be 0, 0.25, 0.5 or 0.75, not {ratio}.'
        )


def mask_decoder(masked: Tensor, grid: Grid, ratio: float) -> Tensor:
    """Choose the masked tokens that are predicted.

    Those that the running cell leaves in, at a random phase. Tube masking of
    a multiple of four slots leaves equally many in each clip. Where the
    numbers would differ, some are added or dropped at random, so that shapes
    do not change from batch to batch.

    Args:
        masked: (B, M), int64, in token order.
        grid: (t, h, w).
        ratio: Share that is left out: 1/4, 1/2 or 3/4.

    Returns:
        (B, N), int64, in token order; N is M * (1 - ratio), rounded.

    Raises:
        ValueError: If the ratio is none of these, or leaves no token.
    """
    num_left = round(masked.size(1) * (1 - ratio))
    if not num_left:
        raise ValueError(
            f'A decoder_mask_ratio of {ratio} leaves none of '
            f'{masked.size(1)} masked tokens to be predicted.'
        )
    phase = torch.randint(CELL, (len(masked),))
    left_out = running_cell(grid, ratio, phase).gather(1, masked)
    order = left_out + torch.rand(left_out.shape)
    chosen = order.topk(num_left, dim=1, largest=False).indices
    return masked.gather(1, chosen.sort(dim=1).values)
