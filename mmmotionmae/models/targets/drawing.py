# Copyright (c) MotionMAE contributors. All rights reserved.
import functools

import cv2
import numpy as np
import numpy.typing as npt
from einops import rearrange
from torch import Tensor

from ...utils.errors import UsageError

UInt8Array = npt.NDArray[np.uint8]

# CIELAB: blue, near black, orange; all between them can be shown as RGB.
_LEAST, _NEUTRAL, _MOST = (70, -10, -45), (12, 0, 0), (70, 35, 55)


def draw_frames(video: Tensor) -> UInt8Array:
    """A video as frames for a picture file.

    Args:
        video: (C, T, H, W), in [0, 1]; values outside are clipped. C is 3,
            or 1, which is drawn grey.

    Returns:
        (T, H, W, 3), uint8.

    Raises:
        UsageError: If it has another number of channels.
    """
    if len(video) not in (1, 3):
        raise UsageError(
            f'A video of {len(video)} channels cannot be drawn as RGB: its '
            'target needs a draw() of its own.'
        )
    video = video.expand(3, *video.shape[1:])
    frames = (video.clamp(0, 1) * 255).round().byte()
    return rearrange(frames, 'c t h w -> t h w c').numpy()


@functools.cache
def diverging_colours() -> UInt8Array:
    """Colours of signed values: blue below 0, near black at 0, orange above.

    Perceptually even: on a straight line of CIELAB on each side, both ends
    as light as each other, so that equal steps look alike, and the sign
    makes nothing look larger.

    Returns:
        RGB, uint8 (255, 3), read-only; 0 is in the middle.
    """
    share = np.linspace(0, 1, 128)[:, None]
    below = np.array(_LEAST) + share * np.subtract(_NEUTRAL, _LEAST)
    above = np.array(_NEUTRAL) + share * np.subtract(_MOST, _NEUTRAL)
    lab = np.concatenate([below, above[1:]]).astype(np.float32)
    rgb = cv2.cvtColor(lab[None], cv2.COLOR_Lab2RGB)[0]
    colours = np.rint(255 * rgb.clip(0, 1)).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def draw_signed(values: Tensor, scale: float) -> UInt8Array:
    """Signed values in :func:`diverging_colours`.

    Args:
        values: (...), float.
        scale: The size that gets the outermost colours, as do larger ones.

    Returns:
        RGB, uint8 (..., 3).
    """
    steps = (values / scale).clamp(-1, 1).mul(127).round().long() + 127
    return diverging_colours()[steps.cpu().numpy()]
