# Copyright (c) MotionMAE contributors. All rights reserved.
"""What is to be predicted.

Shapes: B clips, C channels, T frames, H W size, M masked tokens, P positions
of a tubelet.
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
    """

    values: Tensor
    mean: Tensor
    std: Tensor
    energy: Tensor


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
        video: (B, C, T, H, W), float32: the pixels or the motion of a clip.
        masked: (B, M), int64: the masked tokens.
        norm: ``'tubelet'``: statistics of each tubelet. ``'clip'``:
            statistics of the whole clip. ``'none'``: as it is.
        tubelet_size: Frames of a tubelet.
        patch_size: Height and width of a tubelet, in pixels.

    Returns:
        The target and its statistics.
    """
    values = select_tubelets(video, masked, tubelet_size, patch_size)
    flat = values.flatten(2)
    energy = flat.norm(dim=-1) / flat.size(-1) ** 0.5
    if norm == 'none':
        zero, one = values.new_zeros(()), values.new_ones(())
        return Target(values, zero, one, energy)
    if norm == 'tubelet':
        mean = values.mean(-1, keepdim=True)
        centred = values - mean
        # A dot product; several times faster than `var`.
        var = torch.einsum('bmcp,bmcp->bmc', centred, centred)
        std = rearrange(var / (values.size(-1) - 1), 'b m c -> b m c 1').sqrt()
    else:
        std, mean = (
            rearrange(x, 'b c -> b 1 c 1')
            for x in torch.std_mean(video, dim=(2, 3, 4))
        )
        centred = values - mean
    std = std + 1e-6
    return Target(centred / std, mean, std, energy)
