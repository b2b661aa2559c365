# Copyright (c) MotionMAE contributors. All rights reserved.
"""Masks of objects as PNG files: the value of a pixel is an object id."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...utils.errors import MaskError
from ...utils.files import complete_file

UInt8Array = npt.NDArray[np.uint8]

VOID = 255  # of no object, and not background either


def _make_palette() -> UInt8Array:
    index = np.arange(256, dtype=np.uint8)[:, None]
    bits = np.unpackbits(index, axis=1, bitorder='little')
    # Bits 0, 3, 6 go to red, 1, 4, 7 to green, 2, 5 to blue; lowest first
    # to the top of the channel.
    bits = np.pad(bits, ((0, 0), (0, 1))).reshape(256, 3, 3)
    palette: UInt8Array = np.array([128, 64, 32], np.uint8) @ bits
    palette.setflags(write=False)
    return palette


PALETTE = _make_palette()
"""The PASCAL VOC palette that DAVIS uses: RGB, uint8 (256, 3)."""


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open a PNG; what goes wrong while it is open becomes a MaskError."""
    try:
        with Image.open(path, formats=['PNG']) as picture:
            yield picture
    except (
        OSError,
        SyntaxError,  # what Pillow calls a broken chunk
        ValueError,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise MaskError(f'{path} cannot be read as PNG: {error}') from error


def _read_values(path: str | os.PathLike[str]) -> tuple[UInt8Array, str]:
    """The pixels of a PNG, (H, W), and its Pillow mode."""
    with _open(path) as picture:
        mode, values = picture.mode, np.array(picture)
    if mode in ('P', 'L', '1'):
        return values.astype(np.uint8, copy=False), mode
    if mode not in ('LA', 'RGB', 'RGBA'):
        raise MaskError(
            f'{path} has pixels of the Pillow mode {mode!r}; a mask has at '
            'most 8 bits: save it as a palette PNG or a grey one.'
        )
    if mode != 'LA' and (values[..., :1] != values[..., 1:3]).any():
        raise MaskError(
            f'{path} is a colour image; the values of a mask are the object '
            'ids themselves: save it as a palette PNG or a grey one.'
        )
    return np.ascontiguousarray(values[..., 0]), mode


def read_mask(
    path: str | os.PathLike[str],
    binary: bool = False,
    keep_void: bool = False,
) -> UInt8Array:
    """Read a PNG mask.

    Palette images give their indices, grey ones of up to 8 bits their
    values, RGB or RGBA ones whose channels are equal the value of these.

    Args:
        path: The file.
        binary: Whether there is one object, whose pixels are 255 (or 1), as
            in DAVIS-2016.
        keep_void: Whether 255 in other masks stays what it is.

    Returns:
        Object ids, uint8 (H, W), 0 for the background. The object of a
        binary mask is 1; in other masks 255 means "void", which becomes
        background, as in the official evaluation of DAVIS-2017.

    Raises:
        MaskError: If the file cannot be read, has colours instead of ids, or
            is not binary though it should be.
    """
    values, _ = _read_values(path)
    if not binary:
        if not keep_void:
            values[values == VOID] = 0
        return values
    ids = object_ids(values)
    if not set(ids) <= {1, VOID}:
        raise MaskError(
            f'{path} should be a binary mask, of 0 and 255, but also has '
            f'{sorted(set(ids) - {1, VOID})}. If these are object ids: '
            'binary=False.'
        )
    return (values > 0).astype(np.uint8)


def is_binary_mask(path: str | os.PathLike[str]) -> bool:
    """Tell whether a mask marks one object with 255, as in DAVIS-2016.

    A palette image never does: its 255 is "void". It is not decoded.

    Raises:
        MaskError: If the file cannot be read, or has colours.
    """
    with _open(path) as picture:
        if picture.mode == 'P':
            return False
    values, mode = _read_values(path)
    marked = values == (1 if mode == '1' else VOID)
    return bool(marked.any() and (marked | (values == 0)).all())


def object_ids(mask: UInt8Array) -> list[int]:
    """The ids in a mask, in rising order, without the background."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return [int(i) for i in np.flatnonzero(counts) if i]


def write_mask(path: str | os.PathLike[str], mask: UInt8Array) -> None:
    """Write a mask as a PNG with the palette of DAVIS.

    The file appears under its name only once it is complete. Missing parent
    folders are made.

    Args:
        path: File to write, replaced if it exists.
        mask: Object ids, uint8 (H, W).

    Raises:
        ValueError: Wrong shape or dtype, or no pixels.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
        raise ValueError(
            f'a mask must be uint8 (H, W), got {mask.dtype} {mask.shape}'
        )
    picture = Image.fromarray(np.ascontiguousarray(mask))
    picture.putpalette(PALETTE.tobytes())  # mode 'L' to 'P'
    with complete_file(Path(path)) as temporary:
        picture.save(temporary, format='PNG')
