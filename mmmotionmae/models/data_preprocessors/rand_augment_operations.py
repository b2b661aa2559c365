# Copyright (c) MotionMAE contributors. All rights reserved.
"""The image operations of RandAugment, as PIL defines them.

Each takes uint8 frames (T, C, H, W) on any device, treats every frame alike
and returns new ones. Like PIL it leaves whole levels behind each operation.
What is tested: equal to PIL, to 1 level where PIL rounds in between
(`contrast`, `color`, `sharpness`, and the geometric ones).

kornia is used where it means the same. It is optional and takes a second to
import, so only :func:`enhance` imports it.
"""

import math
from types import ModuleType

import torch

# PIL truncates; float32 lies below a whole level by at most 1e-4.
_BELOW_LEVEL = 1e-3


def enhance() -> ModuleType:
    """Return ``kornia.enhance``.

    Raises:
        ImportError: If kornia is missing.
    """
    try:
        from kornia import enhance
    except ModuleNotFoundError as error:
        raise ImportError(
            f'RandAugment needs kornia ({error}): `pip install kornia`, or '
            'leave rand_augment out of the data preprocessor.'
        ) from error
    return enhance


def _unit(frames: torch.Tensor) -> torch.Tensor:
    return frames / 255


def _levels(unit: torch.Tensor) -> torch.Tensor:
    return (unit * 255 + _BELOW_LEVEL).to(torch.uint8)


def _scalar(
    value: float, like: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Fill on the device: kornia would copy a number, and wait for it."""
    return like.new_full((), value, dtype=dtype)


# ------------------------------------------------------------- levels


def auto_contrast(frames: torch.Tensor) -> torch.Tensor:
    """Stretch each channel of each frame to [0, 255].

    kornia's ``normalize_min_max`` turns a channel of one level black; PIL
    leaves it alone. The doubles and their order are PIL's.
    """
    low = frames.amin((-2, -1), keepdim=True).double()
    high = frames.amax((-2, -1), keepdim=True).double()
    scale = torch.where(high > low, 255 / (high - low), 1)
    offset = torch.where(high > low, -low * scale, 0)
    return (frames * scale + offset).clamp(0, 255).to(torch.uint8)


def equalize(frames: torch.Tensor) -> torch.Tensor:
    """Equalise the histogram of each channel of each frame."""
    return _levels(enhance().equalize(_unit(frames)))


def invert(frames: torch.Tensor) -> torch.Tensor:
    """Take every level from 255."""
    return 255 - frames


def posterize(frames: torch.Tensor, bits: int) -> torch.Tensor:
    """Keep the highest ``bits`` (0 to 8) of every level."""
    bits_ = _scalar(bits, frames, torch.int64)
    return _levels(enhance().posterize(_unit(frames), bits_))


def solarize(frames: torch.Tensor, threshold: int) -> torch.Tensor:
    """Invert the levels from ``threshold`` (0 to 256) on."""
    unit = _unit(frames)
    # Between two levels, where rounding cannot matter.
    between = _scalar((threshold - 0.5) / 255, unit)
    return _levels(enhance().solarize(unit, between))


def solarize_add(
    frames: torch.Tensor, addition: int, threshold: int = 128
) -> torch.Tensor:
    """Add to the levels below ``threshold``, up to 255.

    kornia's ``solarize`` with ``additions`` adds to all levels and inverts.
    """
    raised = (frames.short() + addition).clamp(max=255).to(torch.uint8)
    return torch.where(frames < threshold, raised, frames)


# ------------------------------------- blends: a factor of 1 is the frame


def brightness(frames: torch.Tensor, factor: float) -> torch.Tensor:
    """Blend with black. kornia's ``adjust_brightness`` adds instead."""
    unit = _unit(frames)
    factor_ = _scalar(factor, unit)
    return _levels(enhance().adjust_brightness_accumulative(unit, factor_))


def contrast(frames: torch.Tensor, factor: float) -> torch.Tensor:
    """Blend with the mean grey of each frame.

    kornia's ``adjust_contrast`` multiplies instead.
    """
    unit = _unit(frames)
    adjust = enhance().adjust_contrast_with_mean_subtraction
    return _levels(adjust(unit, _scalar(factor, unit)))


def color(frames: torch.Tensor, factor: float) -> torch.Tensor:
    """Blend with the grey frame; channels are RGB.

    kornia's ``adjust_saturation`` works on HSV instead.
    """
    unit = _unit(frames)
    adjust = enhance().adjust_saturation_with_gray_subtraction
    return _levels(adjust(unit, _scalar(factor, unit)))


def sharpness(frames: torch.Tensor, factor: float) -> torch.Tensor:
    """Blend with the smoothed frame; the outermost pixels stay."""
    unit = _unit(frames)
    return _levels(enhance().sharpness(unit, _scalar(factor, unit)))


# ----------------------------------------------------------- geometry


def shear_x(frames: torch.Tensor, factor: float, fill: int) -> torch.Tensor:
    """Move each row left by ``factor`` times its height from the top."""
    return _warp(frames, (1, factor, 0, 0, 1, 0), fill)


def shear_y(frames: torch.Tensor, factor: float, fill: int) -> torch.Tensor:
    """Move each column up by ``factor`` times its distance from the left."""
    return _warp(frames, (1, 0, 0, factor, 1, 0), fill)


def translate_x(
    frames: torch.Tensor, fraction: float, fill: int
) -> torch.Tensor:
    """Move left by ``fraction`` of the width."""
    return _warp(frames, (1, 0, fraction * frames.shape[-1], 0, 1, 0), fill)


def translate_y(
    frames: torch.Tensor, fraction: float, fill: int
) -> torch.Tensor:
    """Move up by ``fraction`` of the height."""
    return _warp(frames, (1, 0, 0, 0, 1, fraction * frames.shape[-2]), fill)


def rotate(frames: torch.Tensor, degrees: float, fill: int) -> torch.Tensor:
    """Turn counterclockwise about the middle."""
    if degrees == 0:
        return frames
    x, y = frames.shape[-1] / 2, frames.shape[-2] / 2
    cos = math.cos(math.radians(degrees))
    sin = math.sin(math.radians(degrees))
    matrix = (cos, -sin, x - cos * x + sin * y)
    return _warp(frames, (*matrix, sin, cos, y - sin * x - cos * y), fill)


def _warp(
    frames: torch.Tensor, matrix: tuple[float, ...], fill: int
) -> torch.Tensor:
    """Do what ``Image.transform(AFFINE, BICUBIC)`` does.

    kornia's ``warp_affine`` differs: its cubic has the slope -0.75 (PIL's
    -1), and it mixes the border with the fill colour.

    Args:
        frames: uint8 (T, C, H, W).
        matrix: (a, b, c, d, e, f): what is seen at (x, y) comes from
            (ax + by + c, dx + ey + f); pixel centres lie at 0.5, 1.5, ...
        fill: Level of what comes from outside.

    Returns:
        uint8 (T, C, H, W).
    """
    a, b, c, d, e, f = matrix
    height, width = frames.shape[-2:]
    x = torch.arange(width, device=frames.device).double() + 0.5
    y = torch.arange(height, device=frames.device).double()[:, None] + 0.5
    column, row = a * x + b * y + c, d * x + e * y + f
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = frames.reshape(*frames.shape[:2], -1)
    warped = torch.zeros_like(pixels, dtype=torch.float32)
    # One tap is enough along an axis on which nothing moves.
    rows = _taps(row, height, moves=(d, e, f) != (0, 1, 0))
    columns = _taps(column, width, moves=(a, b, c) != (1, 0, 0))
    for i, row_weight in rows:
        for j, column_weight in columns:
            source = (i * width + j).flatten()
            weight = (row_weight * column_weight).flatten().float()
            warped.addcmul_(pixels.index_select(2, source), weight)
    levels = (warped + _BELOW_LEVEL).clamp(0, 255).to(torch.uint8)
    return torch.where(inside, levels.view(frames.shape), fill)


def _taps(
    position: torch.Tensor, size: int, moves: bool
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pixels that a cubic with slope -1 reads along one axis, and weights."""
    position = position - 0.5
    first = position.floor()
    d = position - first
    weights = {0: torch.ones_like(d)}
    if moves:
        weights = {
            -1: -d * (1 - d) ** 2,
            0: 1 - 2 * d**2 + d**3,
            1: d + d**2 - d**3,
            2: -(d**2) * (1 - d),
        }
    return [
        ((first + offset).clamp(0, size - 1).long(), weight)
        for offset, weight in weights.items()
    ]
