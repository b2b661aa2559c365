# Copyright (c) MotionMAE contributors. All rights reserved.
"""Masks to labels and back, from the definitions of the resizing."""

import numpy as np


def nearest_centre(length, size):
    """The pixel in which the centre of each new one lies (Pillow).

    On the border of two, the sum's rounding decides.
    """
    step = length / size
    centres = np.add.accumulate([step / 2] + [step] * (size - 1))
    return centres.astype(int)


def nearest_corner(length, size):
    """The pixel in which the upper left of each new one lies (OpenCV)."""
    return [i * length // size for i in range(size)]


PIXELS = dict(pillow=nearest_centre, opencv=nearest_corner)


def nearest(mask, shape, rule):
    rows, columns = (
        PIXELS[rule](length, size)
        for length, size in zip(mask.shape, shape, strict=True)
    )
    return mask[rows][:, columns]


def bilinear(image, shape):
    """Without anti-aliasing; centres of pixels are at half integers."""
    image = np.asarray(image, dtype=float)
    for axis, size in enumerate(shape):
        length = image.shape[axis]
        x = (np.arange(size) + 0.5) * length / size - 0.5
        x = x.clip(0, length - 1)
        low = np.floor(x).astype(int)
        high = np.minimum(low + 1, length - 1)
        weight = (x - low)[:, None] if axis == 0 else x - low
        image = (
            image.take(low, axis) * (1 - weight)
            + image.take(high, axis) * weight
        )
    return image


def encode_dino(mask, ids, grid):
    """(C, h, w): the id in the middle of each patch."""
    small = nearest(mask, grid, 'pillow')
    return np.array([small == number for number in ids], dtype=float)


def encode_crw(mask, ids, img_shape, grid):
    """(C, h, w): interpolated from a mask of each id."""
    large = nearest(mask, img_shape, 'opencv')
    return np.array([bilinear(large == number, grid) for number in ids])


def stretch(maps):
    """DINO's ``norm_mask``; a map that is the same everywhere becomes 1."""
    result = []
    for label in maps:
        if label.max() > 0:
            label = label - label.min()
            label = label / label.max() if label.max() > 0 else label + 1
        result.append(label)
    return np.array(result)


def decode(maps, ids, shape, min_max):
    """The id whose map is the largest, at this size."""
    maps = np.array([bilinear(label, shape) for label in maps])
    if min_max:
        maps = stretch(maps)
    return np.array(ids, dtype=np.uint8)[maps.argmax(0)]
