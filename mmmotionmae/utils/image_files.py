# Copyright (c) MotionMAE contributors. All rights reserved.
"""Image files, read."""

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt


def read_image(
    path: str | os.PathLike[str], flags: int = cv2.IMREAD_COLOR
) -> npt.NDArray[np.uint8] | None:
    """Decode an image.

    Args:
        path: The file.
        flags: OpenCV's.

    Returns:
        uint8 (H, W, 3), BGR unless the flags say otherwise; None if the file
        is no image, or only a part of one.

    Raises:
        OSError: If the file cannot be read.
        cv2.error: If OpenCV refuses it, as it does an image of 10**10 pixels.
    """
    return decode_image(Path(path).read_bytes(), flags)


def decode_image(
    data: bytes, flags: int = cv2.IMREAD_COLOR
) -> npt.NDArray[np.uint8] | None:
    """Decode the content of an image file; see :func:`read_image`."""
    content = np.frombuffer(data, np.uint8)
    # Unlike `imread`, `imdecode` refuses a truncated JPEG (OpenCV 4.11)
    # instead of filling it up with grey, and opens the file once.
    return cv2.imdecode(content, flags) if len(content) else None
