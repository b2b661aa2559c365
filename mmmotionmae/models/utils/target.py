# Copyright (c) MotionMAE contributors. All rights reserved.
"""What is to be predicted.

Shapes: B clips, C channels, T frames, H W size, M masked tokens, P positions
of a tubelet, K = C*P values of a token.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from .tubelet import select_tubelets

NORMS = ('tubelet', 'clip', 'none')


class Target(NamedTuple):
    """A target at the masked tokens, and how it was normalised.

    Attributes:
        values: (B, M, C, P), normalised.
        mean: Broadcasts over ``values``.
        std: Likewise.
        energy: (B, M): root mean square of each tubelet, not normalised.
        sum: (B, M): sum over the K normalised values.
        square: (B, M): sum over their squares.
    """

    values: Tensor
    mean: Tensor
    std: Tensor
    energy: Tensor
    sum: Tensor
    square: Tensor


def in_pixel_range(video: Tensor) -> Tensor:
    """Integer levels in units of the [0, 1] pixel range.

    Args:
        video: Of any shape: levels (uint8, int16), or float32.

    Returns:
        Same shape, float32: levels / 255; what was float is as it was.
    """
    return video if video.is_floating_point() else video.float().div_(255)


def build_target(
    video: Tensor,
    masked: Tensor,
    norm: str,
    tubelet_size: int,
    patch_size: int,
) -> Target:
    """The normalised target at the masked tokens.

    Mean and standard deviation (unbiased) are taken per channel and the
    result is (x - mean) / (std + 1e-6), as VideoMAE's pre-training engine has
    it for ``norm='tubelet'``.

    Args:
        video: (B, C, T, H, W): the pixels or the motion of a clip, in levels
            (uint8, int16) or in units of the [0, 1] pixel range (float32).
        masked: (B, M), int64: the masked tokens.
        norm: ``'tubelet'``: statistics of each tubelet. ``'clip'``:
            statistics of the whole clip. ``'none'``: as it is.
        tubelet_size: Frames of a tubelet.
        patch_size: Height and width of a tubelet, in pixels.

    Returns:
        The target and its statistics.
    """
    values = select_tubelets(video, masked, tubelet_size, patch_size)
    if norm == 'tubelet':
        return _normalise_tubelets(values)
    values = in_pixel_range(values)
    size = values[0, 0].numel()
    energy = values.flatten(2).norm(dim=-1) / size**0.5
    if norm == 'clip':
        std, mean = (
            rearrange(x, 'b c -> b 1 c 1')
            for x in torch.std_mean(in_pixel_range(video), dim=(2, 3, 4))
        )
        std = std + 1e-6
        values = values.sub_(mean).div_(std)
    else:
        mean, std = values.new_zeros(()), values.new_ones(())
    flat = values.flatten(2)
    square = torch.einsum('bmk,bmk->bm', flat, flat)
    return Target(values, mean, std, energy, flat.sum(-1), square)


def _normalise_tubelets(values: Tensor) -> Target:
    """Normalise each tubelet, in place once it is float.

    Levels are normalised as levels, since the mean of integers is exact: that
    of a constant tubelet, rounded, is easily off by more than the 1e-6 that
    its zero deviation is padded with.

    Args:
        values: (B, M, C, P): levels (uint8, int16), or float32.
    """
    unit = 1.0 if values.is_floating_point() else 255.0
    size = values.size(-1)
    # `select_tubelets` has made a copy.
    values = values.float()
    mean = values.mean(-1, keepdim=True)
    values.sub_(mean)
    # A dot product: no squares in memory.
    total = torch.einsum('bmcp,bmcp->bmc', values, values)[..., None]
    std = (total / max(size - 1, 1)).sqrt_() + 1e-6 * unit
    energy = (total / size + mean.square()).mean((2, 3)).sqrt_() / unit
    square = (total / std.square()).sum((2, 3))
    values.div_(std)
    mean, std = mean / unit, std / unit
    return Target(values, mean, std, energy, torch.zeros_like(square), square)
