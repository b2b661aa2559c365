# Copyright (c) MotionMAE contributors. All rights reserved.
import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

UInt8Array = npt.NDArray[np.uint8]


def heat_map(values: Tensor, scale: float) -> UInt8Array:
    """Show values from 0 to ``scale`` in colours from black to light yellow.

    Args:
        values: (T, H, W), such as :meth:`TubeletTarget.magnitude`.
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
