# Copyright (c) MotionMAE contributors. All rights reserved.
"""DAVIS scores J and F of the masks of objects, in NumPy alone.

J is the region similarity, F the boundary accuracy (Perazzi et al., "A
Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016); both are in 0..1. The values equal those of the official program,
https://github.com/davisvideochallenge/davis2017-evaluation.

It is fast because a mask becomes one Python integer with a bit for each
pixel: shifts move the whole mask, and ``bit_count`` counts its pixels.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[Any]  # (H, W), object ids or bool
FloatArray = npt.NDArray[np.float64]

# How far apart boundaries may lie, as a share of the diagonal of the frame.
_TOLERANCE = 0.008


class Statistics(NamedTuple):
    """Statistics of the values of one object, each NaN without values.

    Attributes:
        mean: The mean.
        recall: The share of values above 0.5.
        decay: Mean of the first quarter of the video less that of the last.
    """

    mean: float
    recall: float
    decay: float


class ObjectScores(NamedTuple):
    """The scores of one object.

    Attributes:
        region: J of each frame, (T,).
        boundary: F of each frame, (T,).
    """

    region: FloatArray
    boundary: FloatArray

    def statistics(self) -> tuple[Statistics, Statistics]:
        """The statistics of J and of F."""
        return statistics(self.region), statistics(self.boundary)


def statistics(values: npt.ArrayLike) -> Statistics:
    """Mean, recall and decay of the values of one object.

    The four quarters share the frames at their borders, as in the official
    program. That keeps the borders in 8 bits, so that from 256 frames on its
    decay is NaN or wrong; here they are whole numbers of any size.

    Args:
        values: One for each scored frame, (T,).

    Returns:
        The statistics. All are NaN if there is no frame, which is so for a
        video of two; there the official program fails.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return Statistics(math.nan, math.nan, math.nan)
    borders = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first = values[: borders[1] + 1]
    last = values[borders[3] :]
    return Statistics(
        mean=float(values.mean()),
        recall=float((values > 0.5).mean()),
        decay=float(first.mean() - last.mean()),
    )


def region_similarity(gt_masks: Mask, masks: Mask) -> FloatArray:
    """J: intersection over union, frame by frame.

    Args:
        gt_masks: Ground truth of one object, bool (T, H, W).
        masks: What was predicted for it, bool (T, H, W).

    Returns:
        J of each frame, (T,), in 0..1; 1 where both masks are empty.

    Raises:
        ValueError: If the shapes differ.
    """
    return _score_object(gt_masks, masks).region


def boundary_accuracy(gt_masks: Mask, masks: Mask) -> FloatArray:
    """F: how well the boundaries agree, frame by frame.

    F is the harmonic mean of precision and recall of the boundary pixels. One
    is a hit if the other boundary comes within 0.8 % of the diagonal of the
    frame, rounded up to whole pixels. The border of the frame is no boundary:
    a mask that fills the frame has none.

    Args:
        gt_masks: Ground truth of one object, bool (T, H, W).
        masks: What was predicted for it, bool (T, H, W).

    Returns:
        F of each frame, (T,), in 0..1; 1 where neither mask has a boundary.

    Raises:
        ValueError: If the shapes differ.
    """
    return _score_object(gt_masks, masks).boundary


def _score_object(gt_masks: Mask, masks: Mask) -> ObjectScores:
    gt_masks, masks = np.asarray(gt_masks) != 0, np.asarray(masks) != 0
    return evaluate_sequence(gt_masks, masks, num_objects=1)[0]


def evaluate_sequence(
    gt_masks: Iterable[Mask], masks: Iterable[Mask], num_objects: int
) -> list[ObjectScores]:
    """Score all objects of a video.

    The masks are taken one pair at a time, so that both can be generators
    that read files.

    Args:
        gt_masks: Ground truth, object ids (H, W) of each frame to be scored.
            DAVIS leaves out the first and the last one of a video.
        masks: What was predicted, object ids (H, W) of the same frames.
        num_objects: Ids 1 to this one are scored. For DAVIS it is the highest
            id in the ground truth of the first frame of the video. Other ids,
            in either mask, count as background.

    Returns:
        The scores of each object, in the order of ids.

    Raises:
        ValueError: If the shapes differ, or the numbers of frames.
    """
    region: list[list[float]] = [[] for _ in range(num_objects)]
    boundary: list[list[float]] = [[] for _ in range(num_objects)]
    for gt, mask in zip(gt_masks, masks, strict=True):
        if gt.shape != mask.shape:
            raise ValueError(
                f'the ground truth is {gt.shape}, the mask {mask.shape}'
            )
        widths = _disk(_radius(gt.shape))
        box = _bounding_box(gt, mask)
        gt, mask = _cut(gt, box), _cut(mask, box)
        for index in range(num_objects):
            j, f = _score(gt == index + 1, mask == index + 1, widths)
            region[index].append(j)
            boundary[index].append(f)
    return [
        ObjectScores(np.array(j), np.array(f))
        for j, f in zip(region, boundary, strict=True)
    ]


def _radius(shape: tuple[int, ...]) -> int:
    """Largest distance at which boundaries hit each other, in pixels."""
    return math.ceil(_TOLERANCE * np.linalg.norm(shape))


def _disk(radius: int) -> list[int]:
    """Half the width of a disk in its middle row, the next one, and so on."""
    return [math.isqrt(radius**2 - row**2) for row in range(radius + 1)]


class _Box(NamedTuple):
    top: int
    bottom: int  # exclusive, as in slices
    left: int
    right: int


def _bounding_box(gt: Mask, mask: Mask) -> _Box:
    """Smallest box around what there is in either mask."""
    union = gt | mask
    rows = np.flatnonzero(union.any(axis=1)).tolist()
    if not rows:
        return _Box(0, 0, 0, 0)
    top, bottom = rows[0], rows[-1] + 1
    columns = np.flatnonzero(union[top:bottom].any(axis=0)).tolist()
    return _Box(top, bottom, columns[0], columns[-1] + 1)


def _cut(mask: Mask, box: _Box) -> Mask:
    """A part of a mask with one pixel more on each side.

    The pixels above and on the left hold boundary; where the box touches the
    frame there is none, and none is added. Those below and on the right are
    what boundary is told from; beyond the frame they repeat the last ones, so
    that its border is no boundary.
    """
    part = mask[
        max(box.top - 1, 0) : box.bottom + 1,
        max(box.left - 1, 0) : box.right + 1,
    ]
    if box.bottom == mask.shape[0]:
        part = np.concatenate([part, part[-1:]])
    if box.right == mask.shape[1]:
        part = np.concatenate([part, part[:, -1:]], axis=1)
    return part


def _score(gt: Mask, mask: Mask, widths: list[int]) -> tuple[float, float]:
    """J and F of one object in a frame.

    Args:
        gt: Ground truth, bool (h, w), with a last row and column that are not
            part of the frame.
        mask: What was predicted, likewise.
        widths: The disk within which boundaries hit each other.
    """
    box = _bounding_box(gt[:-1, :-1], mask[:-1, :-1])
    if box.bottom == 0:
        return 1.0, 1.0
    gt, mask = _cut(gt, box), _cut(mask, box)
    height, width = gt.shape[0] - 1, gt.shape[1] - 1
    # Pixels that are moved sideways must not get into the next row.
    row_bytes = (width + len(widths) + 7) // 8
    row = ((1 << width) - 1).to_bytes(row_bytes, 'little')
    inside = int.from_bytes(row * height, 'little')
    gt_bits, bits = _pack(gt, row_bytes), _pack(mask, row_bytes)
    union = ((gt_bits | bits) & inside).bit_count()
    j = (gt_bits & bits & inside).bit_count() / union

    stride = 8 * row_bytes
    gt_edge = _boundary(gt_bits, stride) & inside
    edge = _boundary(bits, stride) & inside
    num_gt, num = gt_edge.bit_count(), edge.bit_count()
    if not num_gt or not num:
        return j, float(num_gt == num)
    hits = (edge & _dilate(gt_edge, stride, widths)).bit_count()
    gt_hits = (gt_edge & _dilate(edge, stride, widths)).bit_count()
    if not hits:
        return j, 0.0
    precision, recall = hits / num, gt_hits / num_gt
    return j, 2 * precision * recall / (precision + recall)


def _pack(mask: Mask, row_bytes: int) -> int:
    """An integer whose lowest bit is the pixel at the top left."""
    packed = np.packbits(mask, axis=1, bitorder='little')
    padded = np.zeros((len(packed), row_bytes), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    return int.from_bytes(padded.tobytes(), 'little')


def _boundary(bits: int, stride: int) -> int:
    """Pixels unlike the one on the right, below, or below on the right."""
    below = bits >> stride
    return (bits ^ (bits >> 1)) | (bits ^ below) | (bits ^ (below >> 1))


def _dilate(bits: int, stride: int, widths: list[int]) -> int:
    """Pixels that are at most the radius of a disk away.

    Built from the ends of the disk to its middle row: with each step what
    there is moves one row up and down, and the next, wider, row is added.

    Args:
        bits: See :func:`_pack`.
        stride: Bits of a row; at least the radius of them are zero, so that
            what is moved sideways stays in its row.
        widths: See :func:`_disk`.
    """
    # Invariant: each pixel of `bits` is a run of `rows`, from `width` pixels
    # on its left to `width` on its right.
    rows, width = bits, 0
    # The two halves of the disk so far, each with its widest row at 0.
    up = down = 0
    for half_width in reversed(widths):
        while width < half_width:
            # Three copies of the runs, `step` apart, are runs again: no
            # further, for no gap may be left between the copies, also where
            # the left half has fallen off at the first bit.
            step = min(half_width - width, width + 1)
            rows |= (rows << step) | (rows >> step)
            width += step
        # One row further from the middle, and the wider row in its place.
        up = (up >> stride) | rows
        down = (down << stride) | rows
    return up | down
