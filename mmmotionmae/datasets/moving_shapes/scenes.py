# Copyright (c) MotionMAE contributors. All rights reserved.
"""Scenes of the videos: shapes, their motion, and their drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]

# Clockwise from the right in steps of 45 degrees (the y axis points down).
DIRECTIONS = (
    'right',
    'down-right',
    'down',
    'down-left',
    'left',
    'up-left',
    'up',
    'up-right',
)
MOTIONS = DIRECTIONS + ('rotate-cw', 'rotate-ccw', 'approach', 'recede')
SHAPES = ('disc', 'square', 'triangle', 'cross')

_SUPERSAMPLE, _SHIFT = 8, 4  # antialiasing factor, cv2 fractional bits
_MIN_CONTRAST = 60.0  # luma difference of shape and background, of 255
_LUMA = np.array([0.299, 0.587, 0.114])


def _outline(shape: str) -> npt.NDArray[np.complex128]:
    """Vertices ``x + iy`` of a shape inscribed in a circle of diameter 1."""
    if shape == 'cross':
        arm = np.array([2.5 + 1j, 1 + 1j, 1 + 2.5j])
        cross = np.outer(1j ** np.arange(4), arm).ravel()
        return np.asarray(cross / (2 * abs(arm[0])))
    corners = {'disc': 64, 'square': 4, 'triangle': 3}[shape]
    return np.asarray(np.exp(2j * np.pi * np.arange(corners) / corners) / 2)


_OUTLINES = {shape: _outline(shape) for shape in SHAPES}


@dataclass(frozen=True)
class MovingObject:
    """One shape and its motion; the unit of length is the frame side.

    Attributes:
        shape: One of ``SHAPES``.
        color: RGB, 0 to 255.
        diameter: Diameter of the circumscribed circle at mid-video.
        position: Centre (x, y) in the first frame, from the top left corner.
        velocity: (x, y) displacement per frame, y pointing down.
        angle: Orientation in the first frame in radians.
        spin: Rotation per frame in radians, positive is clockwise.
        zoom: Diameter in the last frame over that in the first one.
    """

    shape: str
    color: tuple[float, ...]
    diameter: float
    position: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    spin: float = 0.0
    zoom: float = 1.0


@dataclass(frozen=True)
class Scene:
    """Objects over a bilinear colour gradient.

    Attributes:
        corners: RGB of the background at the top left, top right, bottom
            left and bottom right corner, 0 to 255.
        objects: Back to front; object ``i`` has mask id ``i + 1``.
        bounce: False: objects that leave the frame re-enter on the other
            side (torus). True: they are reflected by the borders.
    """

    corners: tuple[tuple[float, ...], ...]
    objects: tuple[MovingObject, ...]
    bounce: bool = False


def _sample_colors(
    rng: np.random.Generator, num_objects: int
) -> tuple[tuple[tuple[float, ...], ...], list[tuple[float, ...]]]:
    """Draw four corner colours and object colours that stand out."""
    while True:
        corners = rng.uniform(0, 255, (4, 3))
        # Half way to their mean: smooth, and leaves room for contrast.
        corners = 0.5 * (corners + corners.mean(axis=0))
        colors = rng.uniform(0, 255, (num_objects, 3))
        # Luma is linear, so the corners bound that of the whole gradient.
        back, fore = corners @ _LUMA, colors @ _LUMA
        contrast = np.maximum(back.min() - fore, fore - back.max())
        gaps = np.linalg.norm(colors[:, None] - colors, axis=-1)
        apart = gaps[np.triu_indices(num_objects, k=1)] > 120
        if contrast.min() >= _MIN_CONTRAST and apart.all():
            return (
                tuple(tuple(c) for c in corners.tolist()),
                [tuple(c) for c in colors.tolist()],
            )


def _sample_bright_on_dark(
    rng: np.random.Generator,
) -> tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]:
    """Draw four dark corner colours and a bright object colour."""
    corners = rng.uniform(0, 110, (4, 3))
    corners = 0.5 * (corners + corners.mean(axis=0))
    color = rng.uniform(110 + _MIN_CONTRAST, 255, 3)
    return tuple(tuple(c) for c in corners.tolist()), tuple(color.tolist())


def sample_scene(
    rng: np.random.Generator,
    motion: str,
    speed: tuple[float, float] = (0.06, 0.1),
    diameter: tuple[float, float] = (0.4, 0.55),
) -> Scene:
    """Draw a one-object torus scene with the given motion.

    The object is bright and the background dark, so that the sign of a frame
    difference is that of the motion: an easier task for a small network.

    Args:
        rng: Source of randomness.
        motion: One of ``MOTIONS``.
        speed: Range of the speed of translation, frame sides per frame.
        diameter: Range of the diameter at mid-video, frame sides.

    Raises:
        ValueError: ``motion`` is unknown.
    """
    if motion not in MOTIONS:
        raise ValueError(f'unknown motion {motion!r}, choose from {MOTIONS}')
    rotates = motion.startswith('rotate')
    # A turning disc does not show its motion.
    shapes = SHAPES[1:] if rotates else SHAPES
    shape = shapes[rng.integers(len(shapes))]
    corners, color = _sample_bright_on_dark(rng)
    x, y = rng.uniform(0, 1, 2).tolist()
    angle = rng.uniform(0, 2 * np.pi)
    size = rng.uniform(*diameter)
    velocity, spin, zoom = (0.0, 0.0), 0.0, 1.0
    if motion in DIRECTIONS:
        heading = DIRECTIONS.index(motion) * np.pi / 4
        v = rng.uniform(*speed)
        velocity = (v * math.cos(heading), v * math.sin(heading))
    elif rotates:
        # Far below 45 degrees, at which a turning square is ambiguous.
        spin = math.radians(rng.uniform(8, 15))
        spin = spin if motion == 'rotate-cw' else -spin
    else:
        zoom = rng.uniform(1.8, 2.5)
        zoom = zoom if motion == 'approach' else 1 / zoom
    obj = MovingObject(shape, color, size, (x, y), velocity, angle, spin, zoom)
    return Scene(corners, (obj,))


def sample_vos_scene(rng: np.random.Generator, num_objects: int) -> Scene:
    """Draw a scene for video object segmentation.

    The objects move slowly inside the frame, bounce off its borders, turn
    and change size a little. They may occlude each other, but not in the
    first frame.

    Raises:
        ValueError: ``num_objects`` is not 1 or 2 (more may not fit).
    """
    if num_objects not in (1, 2):
        raise ValueError(f'num_objects must be 1 or 2, got {num_objects}')
    corners, colors = _sample_colors(rng, num_objects)
    diameters = rng.uniform(0.25, 0.38, num_objects)
    while True:
        # 0.55 instead of 0.5: room for the change of size.
        margin = 0.55 * diameters[:, None]
        points = rng.uniform(margin, 1 - margin, (num_objects, 2))
        gap = np.linalg.norm(points[0] - points[-1])
        if num_objects == 1 or gap >= margin.sum():
            break
    objects = []
    for color, size, point in zip(colors, diameters, points, strict=True):
        heading, v = rng.uniform(0, 2 * np.pi), rng.uniform(0.012, 0.025)
        objects.append(
            MovingObject(
                SHAPES[rng.integers(len(SHAPES))],
                color,
                float(size),
                (float(point[0]), float(point[1])),
                (v * math.cos(heading), v * math.sin(heading)),
                rng.uniform(0, 2 * np.pi),
                math.radians(rng.uniform(-4, 4)),
                math.exp(rng.uniform(-0.18, 0.18)),
            )
        )
    return Scene(corners, tuple(objects), bounce=True)


def _coverage(
    obj: MovingObject, bounce: bool, t: int, num_frames: int, size: int
) -> npt.NDArray[np.float32]:
    """Share (H, W) of each pixel that the object covers in frame ``t``."""
    phase = (t - (num_frames - 1) / 2) / max(num_frames - 1, 1)
    scale = obj.diameter * obj.zoom**phase
    centre = np.array(obj.position) + t * np.array(obj.velocity)
    offsets = np.zeros((1, 2))
    if bounce:
        # Triangle wave between the margins that the largest size needs.
        margin = 0.5 * obj.diameter * max(obj.zoom, 1 / obj.zoom) ** 0.5
        span = 1 - 2 * margin
        centre = margin + span - np.abs((centre - margin) % (2 * span) - span)
    else:
        centre = centre % 1
        offsets = np.mgrid[-1:2, -1:2].reshape(2, 9).T  # wrapped copies
    turn = np.exp(1j * (obj.angle + t * obj.spin))
    outline = scale * turn * _OUTLINES[obj.shape]
    polygons = (centre + offsets)[:, None] + np.stack(
        [outline.real, outline.imag], axis=-1
    )
    # cv2 puts integer coordinates at the pixel centres.
    fine = polygons * size * _SUPERSAMPLE - 0.5
    canvas = np.zeros((size * _SUPERSAMPLE,) * 2, np.uint8)
    cv2.fillPoly(
        canvas,
        list(np.rint(fine * 2**_SHIFT).astype(np.int32)),
        (255,),
        shift=_SHIFT,
    )
    cover = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return cover.astype(np.float32) / 255


def render(
    scene: Scene, num_frames: int, size: int
) -> tuple[UInt8Array, UInt8Array]:
    """Render a scene with antialiasing; it looks alike at every size.

    Args:
        scene: What to draw.
        num_frames: Number of frames T.
        size: Frame side S in pixels.

    Returns:
        RGB frames, uint8 (T, S, S, 3), and masks, uint8 (T, S, S), with 0
        for the background and ``i + 1`` for object ``i``.
    """
    w = ((np.arange(size, dtype=np.float32) + 0.5) / size)[:, None]
    top_left, top_right, low_left, low_right = np.array(
        scene.corners, np.float32
    )
    left = (1 - w) * top_left + w * low_left
    right = (1 - w) * top_right + w * low_right
    background = (1 - w) * left[:, None] + w * right[:, None]
    frames = np.empty((num_frames, size, size, 3), np.uint8)
    masks = np.zeros((num_frames, size, size), np.uint8)
    for t in range(num_frames):
        frame = background
        for i, obj in enumerate(scene.objects):
            alpha = _coverage(obj, scene.bounce, t, num_frames, size)
            color = np.array(obj.color, np.float32)
            frame = frame + alpha[..., None] * (color - frame)
            masks[t][alpha >= 0.5] = i + 1
        frames[t] = np.rint(frame)
    return frames, masks
