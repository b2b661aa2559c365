# Copyright (c) MotionMAE contributors. All rights reserved.
"""Masks and keypoints drawn on frames. Images are RGB, uint8 (H, W, 3)."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from ..datasets.sequences.masks import PALETTE

UInt8Array = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def overlay_mask(
    image: UInt8Array, mask: UInt8Array, alpha: float = 0.5
) -> UInt8Array:
    """Tint the objects of a mask in the colours of the DAVIS palette.

    Args:
        image: (H, W, 3).
        mask: Object ids, uint8 (H, W); 0, the background, stays as it is.
        alpha: Share of the colour, from 0 to 1.

    Returns:
        A new image, (H, W, 3): ``(1 - alpha) * image + alpha * colour``,
        rounded.

    Raises:
        ValueError: If image and mask differ in size.
    """
    _check_size(image, mask)
    result = image.copy()
    inside = mask > 0
    mixed = (1 - alpha) * image[inside] + alpha * PALETTE[mask[inside]]
    result[inside] = np.rint(mixed).astype(np.uint8)
    return result


def draw_contours(
    image: UInt8Array,
    mask: UInt8Array,
    color: Color | None = None,
    thickness: int = 1,
) -> UInt8Array:
    """Draw the outline of each object, inside of it.

    A pixel is on the outline of its object if another object or background
    is at most ``thickness`` pixels away, diagonals included. The border of
    the image is no outline.

    Args:
        image: (H, W, 3).
        mask: Object ids, uint8 (H, W).
        color: RGB. None: that of the object in the DAVIS palette.
        thickness: In pixels, at least 1.

    Returns:
        A new image, (H, W, 3).

    Raises:
        ValueError: If image and mask differ in size.
    """
    _check_size(image, mask)
    result = image.copy()
    square = np.ones((3, 3), np.uint8)
    for object_id in np.unique(mask[mask > 0]):
        inside = (mask == object_id).astype(np.uint8)
        # Outside of the image counts as inside of the object here.
        core = cv2.erode(inside, square, iterations=thickness)
        result[inside > core] = color or PALETTE[object_id]
    return result


def draw_keypoints(
    image: UInt8Array,
    keypoints: npt.NDArray[np.floating],
    color: Color | None = None,
    radius: int = 3,
) -> UInt8Array:
    """Draw a dot for each keypoint.

    Args:
        image: (H, W, 3).
        keypoints: (K, 2), x and y in pixels, 0-based. A keypoint with NaN is
            not drawn.
        color: RGB. None: entry k + 1 of the DAVIS palette for keypoint k.
        radius: In pixels.

    Returns:
        A new image, (H, W, 3).
    """
    result = image.copy()
    for k, point in enumerate(keypoints):
        if not np.isfinite(point).all():
            continue
        x, y = np.rint(point).astype(int).tolist()
        dot = color or PALETTE[k + 1].tolist()
        cv2.circle(result, (x, y), radius, dot, thickness=cv2.FILLED)
    return result


def add_caption(image: UInt8Array, text: str) -> UInt8Array:
    """Put a line of white text on a black strip above an image.

    Args:
        image: (H, W, 3).
        text: ASCII; written smaller where it would not fit.

    Returns:
        (H + strip, W, 3). The height of the strip depends on W alone.
    """
    width = image.shape[1]
    height = max(12, min(28, width // 14))
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, 1, 1)
    scale = min(0.6 * height / text_height, 0.96 * width / text_width)
    strip = np.zeros((height, width, 3), np.uint8)
    cv2.putText(
        strip,
        text,
        (width // 50, round(0.75 * height)),
        _FONT,
        scale,
        WHITE,
        lineType=cv2.LINE_AA,
    )
    return np.vstack([strip, image])


def contact_sheet(
    images: Sequence[UInt8Array], columns: int = 4, gap: int = 4
) -> UInt8Array:
    """Put images side by side, row after row, on black.

    Args:
        images: At least one; all (H, W, 3).
        columns: Most images in a row.
        gap: Pixels between two images.

    Returns:
        One image.
    """
    height, width = images[0].shape[:2]
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = np.zeros(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3),
        np.uint8,
    )
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        y, x = row * (height + gap), column * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


def _check_size(image: UInt8Array, mask: UInt8Array) -> None:
    if image.shape[:2] != mask.shape:
        raise ValueError(
            f'image and mask differ in size: {image.shape[:2]} and '
            f'{mask.shape}'
        )
