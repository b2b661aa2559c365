# Copyright (c) MotionMAE contributors. All rights reserved.
"""Motion as pictures.

Motion is the difference of frames, (..., C, T, H, W), in units of the [0, 1]
pixel range.
"""

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

UInt8Array = npt.NDArray[np.uint8]

# The least difference that is shown as black or white: sensor noise should
# not look like motion.
LEAST_SCALE = 0.05


def motion_scale(motion: Tensor) -> float:
    """The difference to show as black or white.

    Args:
        motion: Of any shape; the true one, so that predictions of different
            models are shown alike.

    Returns:
        What 99.9 % of the differences do not exceed, at least
        :data:`LEAST_SCALE`.
    """
    # `torch.quantile` takes no more than 2**24 values.
    strong = np.quantile(motion.abs().cpu().numpy(), 0.999)
    return max(float(strong), LEAST_SCALE)


def motion_to_rgb(motion: Tensor, scale: float) -> Tensor:
    """Show a difference of frames as a picture around mid-grey.

    Args:
        motion: (..., C, T, H, W), in units of the [0, 1] pixel range.
        scale: The difference that is shown as black or white.

    Returns:
        The same shape, in [0, 1]; no motion is 0.5.
    """
    return (motion / (2 * scale) + 0.5).clamp(0, 1)


def motion_map(motion: Tensor) -> Tensor:
    """How much each pixel changes.

    Args:
        motion: (..., C, T, H, W).

    Returns:
        (..., T, H, W): the root mean square over the channels.
    """
    return motion.square().mean(-4).sqrt()


def heat_map(values: Tensor, scale: float) -> UInt8Array:
    """Show values from 0 to ``scale`` in colours from black to light yellow.

    Args:
        values: (T, H, W), such as a :func:`motion_map`.
        scale: The value that gets the lightest colour, as do those above.

    Returns:
        RGB, uint8 (T, H, W, 3); OpenCV's ``COLORMAP_INFERNO``.
    """
    levels = (values / scale).clamp(0, 1).mul(255).round()
    frames = levels.cpu().numpy().astype(np.uint8)
    pictures = [
        cv2.cvtColor(
            cv2.applyColorMap(frame, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB
        )
        for frame in frames
    ]
    return np.stack(pictures)
