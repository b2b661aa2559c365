# Copyright (c) MotionMAE contributors. All rights reserved.
"""Normalisation of targets.

Shapes: B clips, N tokens, G groups of a token's values that are normalised
each on its own (the channels of a tubelet), P values of a group, K = G*P
values of a token.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

LEVELS = 255  # of a pixel, from black to white

NORMS = ('tubelet', 'clip', 'none', 'tubelet-floor')


class TargetValues(NamedTuple):
    """A target at some tokens, and how it was normalised.

    Attributes:
        values: (B, N, G, P), normalised, float32.
        mean: Broadcasts over ``values``.
        std: Likewise.
        rms: (B, N): root mean square of each token, not normalised.
        sum: (B, N): sum over the K normalised values.
        square: (B, N): sum over their squares.
    """

    values: Tensor
    mean: Tensor
    std: Tensor
    rms: Tensor
    sum: Tensor
    square: Tensor


def in_pixel_range(video: Tensor, levels: int = LEVELS) -> Tensor:
    """Integer levels in units of the [0, 1] pixel range.

    Args:
        video: Of any shape: levels (uint8, int16), or float32.
        levels: How many of them make 1.

    Returns:
        Same shape, float32: video / levels; what was float is as it was.
    """
    if video.is_floating_point():
        return video.float()
    return video.float().div_(levels)


def clip_statistics(
    video: Tensor, levels: int = LEVELS
) -> tuple[Tensor, Tensor]:
    """Mean and padded standard deviation of each channel of whole clips.

    Args:
        video: (B, C, T, H, W), levels or float32.
        levels: As in :func:`in_pixel_range`.

    Returns:
        Mean, and unbiased deviation + 1e-6, each (B, 1, C, 1).
    """
    std, mean = (
        rearrange(x, 'b c -> b 1 c 1')
        for x in torch.std_mean(in_pixel_range(video, levels), dim=(2, 3, 4))
    )
    return mean, std + 1e-6


def normalise_by(
    values: Tensor, mean: Tensor, std: Tensor, levels: int = LEVELS
) -> TargetValues:
    """Normalise with statistics that are known.

    Args:
        values: (B, N, G, P): levels, or float32; in place, if float.
        mean: Broadcasts over ``values``.
        std: Likewise.
        levels: As in :func:`in_pixel_range`.
    """
    values = in_pixel_range(values, levels)
    size = values[0, 0].numel()
    rms = values.flatten(2).norm(dim=-1) / size**0.5
    values = values.sub_(mean).div_(std)
    return _with_sums(values, mean, std, rms)


def leave_as_is(values: Tensor, levels: int = LEVELS) -> TargetValues:
    """No normalisation: (B, N, G, P), levels or float32."""
    values = in_pixel_range(values, levels)
    size = values[0, 0].numel()
    rms = values.flatten(2).norm(dim=-1) / size**0.5
    mean, std = values.new_zeros(()), values.new_ones(())
    return _with_sums(values, mean, std, rms)


def _with_sums(
    values: Tensor, mean: Tensor, std: Tensor, rms: Tensor
) -> TargetValues:
    flat = values.flatten(2)
    # A dot product: no squares in memory.
    square = torch.einsum('bmk,bmk->bm', flat, flat)
    return TargetValues(values, mean, std, rms, flat.sum(-1), square)


def normalise_groups(
    values: Tensor,
    noise: Tensor | float | None = None,
    levels: int = LEVELS,
) -> TargetValues:
    """Normalise each group of each token, in place once it is float.

    The result is (x - mean) / (std + 1e-6), std unbiased, as VideoMAE's
    pre-training engine has it. With noise it is
    (x - mean) / (sqrt(std² + noise²) + 1e-6).

    Levels are normalised as levels, since the mean of integers is exact: that
    of a constant tubelet, rounded, is easily off by more than the 1e-6 that
    its zero deviation is padded with.

    Args:
        values: (B, N, G, P): levels (uint8, int16), or float32; a copy that
            may be overwritten.
        noise: Broadcasts over (B, N, G, 1), in units of the [0, 1] pixel
            range. None: 0.
        levels: As in :func:`in_pixel_range`.
    """
    unit = 1.0 if values.is_floating_point() else float(levels)
    size = values.size(-1)
    values = values.float()
    mean = values.mean(-1, keepdim=True)
    values.sub_(mean)
    # A dot product: no squares in memory. `total` is what the squared
    # deviations of a group sum up to, from which all else follows:
    total = torch.einsum('bmcp,bmcp->bmc', values, values)[..., None]
    variance = total / max(size - 1, 1)
    if noise is not None:
        variance = variance + (noise * unit) ** 2
    std = variance.sqrt_() + 1e-6 * unit
    # the mean square, since E[x²] = Var[x] + E[x]²;
    rms = (total / size + mean.square()).mean((2, 3)).sqrt_() / unit
    # and the squares of the normalised values, whose sum is 0.
    square = (total / std.square()).sum((2, 3))
    values.div_(std)
    mean, std = mean / unit, std / unit
    return TargetValues(
        values, mean, std, rms, torch.zeros_like(square), square
    )
