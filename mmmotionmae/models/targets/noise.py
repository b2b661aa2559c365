# Copyright (c) MotionMAE contributors. All rights reserved.
"""The noise of a sensor, estimated from what it recorded.

Shapes: B clips, C channels, T frames, H W height and width of a frame.
"""

import torch
from einops import rearrange
from torch import Tensor

from ...utils.errors import UsageError
from .values import LEVELS

# Of a normal distribution half lies within this many deviations.
_QUARTILE = 0.6744897501960817

# Root of the sum of squares of the mask of :func:`noise_level`.
_MASK_NORM = 6.0

# How often, and from how many deviations on, what is too large for noise is
# taken out.
_CLIPPINGS, _CLIP = 5, 3.0

_SAMPLES = 2**17  # of each channel; more make the estimate no better


def noise_level(
    video: Tensor, levels: int = LEVELS, roundings: int = 1
) -> Tensor:
    """The deviation of the noise in a video, of each channel.

    The high frequencies of each frame, taken by the mask [1, -2, 1] along
    both axes (J. Immerkær, Fast Noise Variance Estimation, CVIU 1996; planes
    and straight edges along the axes vanish), are noise but for a few, and
    so their median size is 0.6745 deviations (D. Donoho, I. Johnstone, Ideal
    Spatial Adaptation by Wavelet Shrinkage, Biometrika 1994). What is above
    three deviations is taken out, and the median again, five times (J.-L.
    Starck, F. Murtagh, Automatic Noise Estimation from the Multiresolution
    Support, PASP 1998). Of frames, texture counts as noise; a difference of
    frames has none where nothing moves, and as long as that is half of the
    frame, what moves hardly counts.

    Noise that neighbouring pixels share, as after compression or
    enlargement, is missed in part. Rounding to levels is noise, too, of a
    deviation of 1 / sqrt(12) levels: the estimate is never below that.

    Args:
        video: (B, C, T, H, W): levels, integers, or float32. H and W are at
            least 3.
        levels: How many of the integers make 1.
        roundings: How many rounded values each integer is the sum, or the
            difference, of.

    Returns:
        (B, 1, C, 1), float32: a deviation, in units of the [0, 1] pixel
        range, or of a float video.

    Raises:
        UsageError: If the video has no frame, or is too small.
    """
    if not video.size(2) or min(video.shape[-2:]) < 3:
        raise UsageError(
            "The norm 'tubelet-floor' estimates noise, of at least two frames "
            'of 3x3 values: the clips (and what pooling leaves of them) are '
            'too small.'
        )
    is_float = video.is_floating_point()
    x = video.short() if video.dtype == torch.uint8 else video
    x = x[..., :-2, :] - 2 * x[..., 1:-1, :] + x[..., 2:, :]
    x = x[..., :-2] - 2 * x[..., 1:-1] + x[..., 2:]
    x = rearrange(x, 'b c t h w -> b c (t h w)').abs()
    # An odd step, which no regular grid of the frame is a multiple of.
    x = x[..., :: 1 + x.size(-1) // _SAMPLES // 2 * 2].float()
    x = x.sort(-1).values  # what is taken out, is the end of it
    median = _median(x, torch.full_like(x[..., :1], torch.inf), not is_float)
    for _ in range(_CLIPPINGS):
        median = _median(x, median * (_CLIP / _QUARTILE), not is_float)
    noise = rearrange(median, 'b c 1 -> b 1 c 1') / (_QUARTILE * _MASK_NORM)
    if not is_float:
        noise = noise.clamp(min=(roundings / 12) ** 0.5) / levels
    return noise


def _median(x: Tensor, limit: Tensor, rounded: bool) -> Tensor:
    """The median, along the last dimension, of sorted values up to a limit.

    Integers stand for all that was rounded to them: it lies where half of the
    values are reached within that one.
    """
    count = torch.searchsorted(x, limit, right=True)
    median = x.gather(-1, (count - 1) // 2)
    if not rounded:
        return median
    below = torch.searchsorted(x, median)
    at = torch.searchsorted(x, median, right=True) - below
    start = (median - 0.5).clamp(min=0)
    width = median + 0.5 - start
    return start + width * (0.5 * count - below) / at
