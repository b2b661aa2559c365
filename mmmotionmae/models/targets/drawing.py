# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import numpy.typing as npt
from einops import rearrange
from torch import Tensor

from ...utils.errors import UsageError

UInt8Array = npt.NDArray[np.uint8]


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
