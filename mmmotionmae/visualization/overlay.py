# Copyright (c) MotionMAE contributors. All rights reserved.
"""Masks and keypoints drawn on frames. Images are RGB, uint8 (H, W, 3)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..datasets.sequences.masks import PALETTE

UInt8Array = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)


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


class ColourBar(NamedTuple):
    """Legend of the colours of a picture of signed values.

    Attributes:
        colours: From -limit to +limit, RGB, uint8 (N, 3).
        limit: The value of the outermost ones, above 0.
    """

    colours: UInt8Array
    limit: float


def add_caption(
    image: UInt8Array, text: str, bar: ColourBar | None = None
) -> UInt8Array:
    """Put a line of white text on a black strip above an image.

    Args:
        image: (H, W, 3).
        text: Written smaller where it would not fit.
        bar: Drawn at the right end of the strip, with its values.

    Returns:
        (H + strip, W, 3). The height of the strip depends on W alone.
    """
    return np.vstack([caption(image.shape[1], text, bar), image])


def caption(width: int, text: str, bar: ColourBar | None = None) -> UInt8Array:
    """The strip of :func:`add_caption` alone, ``width`` pixels wide."""
    height = max(12, min(28, width // 9))
    strip = Image.new('RGB', (width, height))
    draw = ImageDraw.Draw(strip)
    size, margin = 0.64 * height, width // 50
    end = width - margin
    if bar is not None:
        end = _draw_bar(strip, draw, bar, end, size) - height // 2
    length = draw.textlength(text, ImageFont.load_default(size))
    size *= min(1.0, (end - margin) / max(length, 1))
    draw.text(
        (margin, 0.5 * height),
        text,
        WHITE,
        ImageFont.load_default(size),
        anchor='lm',
    )
    return np.asarray(strip)


def _draw_bar(
    strip: Image.Image,
    draw: ImageDraw.ImageDraw,
    bar: ColourBar,
    end: int,
    size: float,
) -> int:
    """Draw both halves of a bar, 0 between them; returns where it begins."""
    font = ImageFont.load_default(size)
    height = strip.height
    top, bottom = round(0.28 * height), round(0.72 * height)
    half = len(bar.colours) // 2
    gap = max(2, height // 6)
    for part in (
        f'+{bar.limit:.2f}',
        bar.colours[half:],
        '0',
        bar.colours[: half + 1],
        f'-{bar.limit:.2f}',
    ):
        if isinstance(part, str):
            draw.text((end, 0.5 * height), part, WHITE, font, anchor='rm')
            end -= round(draw.textlength(part, font)) + gap
            continue
        length = 2 * height
        row = part[np.linspace(0, len(part) - 1, length).round().astype(int)]
        block = np.repeat(row[None], bottom - top, axis=0)
        strip.paste(Image.fromarray(block), (end - length, top))
        end -= length + gap
    return end


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
