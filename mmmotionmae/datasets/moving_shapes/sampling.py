# Copyright (c) MotionMAE contributors. All rights reserved.
"""Random scenes of a given difficulty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

import numpy as np
import numpy.typing as npt

from ...utils.choices import DIRECTIONS, MOTIONS
from .scenes import (
    BAR,
    LEVELS,
    RGB,
    SHAPES,
    Level,
    Light,
    MovingObject,
    Scene,
    Texture,
    Vector,
)

_MIN_CONTRAST = 60.0  # luma difference of shape and background, of 255
_LUMA = np.array([0.299, 0.587, 0.114])
# Kinds of texture: how many waves, and the angle between two of them. Stripes,
# checks, wood and marble; no three waves add up to none, which would give the
# sum another distribution.
_KINDS = ((1, 0.0), (2, math.pi / 2), (4, 0.15), (7, math.pi / 7))
_VOS_SPEED = (0.012, 0.025)


def _colors(array: npt.NDArray[np.float64]) -> tuple[RGB, ...]:
    return tuple(tuple(color) for color in array.tolist())


def _vector(length: float, angle: float) -> Vector:
    return length * math.cos(angle), length * math.sin(angle)


def _sample_colors(
    rng: np.random.Generator, num_objects: int
) -> tuple[tuple[RGB, ...], tuple[RGB, ...]]:
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
            return _colors(corners), _colors(colors)


def _sample_bright_on_dark(
    rng: np.random.Generator,
) -> tuple[tuple[RGB, ...], RGB]:
    """Draw four dark corner colours and a bright object colour."""
    corners = rng.uniform(0, 110, (4, 3))
    corners = 0.5 * (corners + corners.mean(axis=0))
    color = rng.uniform(110 + _MIN_CONTRAST, 255, 3)
    return _colors(corners), tuple(color.tolist())


class _Covers:
    """Draws the textures of one scene, all of one palette."""

    def __init__(self, rng: np.random.Generator, grain: Vector) -> None:
        self.rng = rng
        self.grain = grain
        while True:
            palette = rng.uniform(0, 255, (3, 3))
            luma = palette @ _LUMA
            if np.ptp(luma) >= 2 * _MIN_CONTRAST:
                break
        self.palette = _colors(palette[np.argsort(luma)])
        # Those in the scene differ in kind; the background comes first.
        self.kinds = rng.permutation(len(_KINDS)).tolist()

    def texture(self, kind: int, periodic: bool = False) -> Texture:
        """Draw one of a kind; a periodic one fits together at the borders."""
        rng, (count, angle) = self.rng, _KINDS[self.kinds[kind]]
        angles = rng.uniform(0, np.pi) + angle * np.arange(count)
        lengths = np.full(count, rng.uniform(*self.grain))
        if count > 2:
            angles += 0.5 * angle * rng.uniform(-1, 1, count)
            lengths = rng.uniform(*self.grain, count)
        waves = np.stack([np.cos(angles), np.sin(angles)], -1)
        waves = waves / lengths[:, None]
        if periodic:
            waves = np.rint(waves)
        phases = rng.uniform(0, 2 * np.pi, count)
        x, y = waves.T.tolist()
        return Texture(
            tuple(zip(x, y, strict=True)), tuple(phases.tolist()), self.palette
        )


def _furnish(
    scene: Scene,
    rng: np.random.Generator,
    level: Level,
    speed: float,
    span: float,
    alike: Sequence[MovingObject],
) -> Scene:
    """Add what the level asks for.

    Args:
        scene: The labelled objects, of flat colours, over a gradient.
        rng: Source of randomness.
        level: How hard it is to be.
        speed: Of the fastest object, frame sides per frame.
        span: Side of the frame over that of a clip.
        alike: The distractors; the first looks like the first object, and so
            on in turn.
    """
    if level == LEVELS[0]:
        return scene
    covers = _Covers(rng, (level.grain[0] / span, level.grain[1] / span))
    pace = level.camera * speed * rng.uniform(0.3, 1)
    camera = _vector(pace, rng.uniform(0, 2 * np.pi))

    def film(obj: MovingObject, kind: int) -> MovingObject:
        x, y = obj.velocity
        return replace(
            obj,
            velocity=(x + camera[0], y + camera[1]),
            texture=covers.texture(kind) if level.textured else None,
        )

    def lie_about(shape: str, diameter: float, kind: int) -> MovingObject:
        color = covers.palette[rng.integers(len(covers.palette))]
        place = tuple(rng.uniform(0, 1, 2).tolist())
        angle = rng.uniform(0, 2 * np.pi)
        obj = MovingObject(shape, color, diameter, place, angle=angle)
        return replace(film(obj, kind), labelled=False)

    background = covers.texture(0, periodic=True)
    clutter = [
        lie_about(
            SHAPES[rng.integers(len(SHAPES))],
            rng.uniform(0.1, 0.2),
            int(rng.integers(1, len(_KINDS))),
        )
        for _ in range(level.clutter)
    ]
    # Kind 0 is the background's, 3 that of the bars.
    objects = [film(obj, 1 + i) for i, obj in enumerate(scene.objects)]
    distractors = [
        replace(film(obj, 1), texture=twin.texture, labelled=False)
        for obj, twin in zip(alike, cycle(objects), strict=False)
    ]
    bars = [lie_about(BAR, 0.8, 3) for _ in range(level.occluders)]
    # The centre dims only, so that few colours are clipped.
    change = rng.uniform([-1, -1, -1], [0, 1, 1], (2, 3)) * level.light
    first, last = (change + [1, 0, 0]).tolist()
    return replace(
        scene,
        objects=(*clutter, *distractors, *objects, *bars),
        texture=background if level.textured else None,
        camera=camera,
        light=Light(tuple(first), tuple(last)) if level.light else None,
        noise=level.noise,
        noise_seed=int(rng.integers(1 << 31)),
    )


def sample_scene(
    rng: np.random.Generator,
    motion: str,
    speed: tuple[float, float] = (0.06, 0.1),
    diameter: tuple[float, float] = (0.4, 0.55),
    level: Level = LEVELS[0],
) -> Scene:
    """Draw a torus scene in which one object has the given motion.

    At level 0 the object is bright and the background dark, so that the sign
    of a frame difference is that of the motion: an easier task for a small
    network. Where the camera moves, the motion is that over the background;
    all else stands still there.

    Args:
        rng: Source of randomness.
        motion: One of ``MOTIONS``.
        speed: Range of the speed of translation, frame sides per frame.
        diameter: Range of the diameter at mid-video, frame sides.
        level: How hard it is to be.

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
        velocity = _vector(rng.uniform(*speed), heading)
    elif rotates:
        # Far below 45 degrees, at which a turning square is ambiguous.
        spin = math.radians(rng.uniform(8, 15))
        spin = spin if motion == 'rotate-cw' else -spin
    else:
        zoom = rng.uniform(1.8, 2.5)
        zoom = zoom if motion == 'approach' else 1 / zoom
    obj = MovingObject(shape, color, size, (x, y), velocity, angle, spin, zoom)
    alike = [
        MovingObject(
            shape,
            color,
            size,
            tuple(rng.uniform(0, 1, 2).tolist()),
            angle=rng.uniform(0, 2 * np.pi),
        )
        for _ in range(level.distractors)
    ]
    return _furnish(Scene(corners, (obj,)), rng, level, speed[1], 1, alike)


def sample_vos_scene(
    rng: np.random.Generator, num_objects: int, level: Level = LEVELS[0]
) -> Scene:
    """Draw a scene for video object segmentation.

    The objects move slowly inside the frame, bounce off its borders, turn
    and change size a little. They may occlude each other, but not in the
    first frame. It shows four times as much in each direction as
    :func:`sample_scene`: at four times the side, textures are as fine and
    objects as fast, in pixels.

    Args:
        rng: Source of randomness.
        num_objects: Labelled objects, 1 or 2.
        level: How hard it is to be.

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

    def roam(
        color: RGB, size: float, point: npt.NDArray[np.float64]
    ) -> MovingObject:
        heading, v = rng.uniform(0, 2 * np.pi), rng.uniform(*_VOS_SPEED)
        return MovingObject(
            SHAPES[rng.integers(len(SHAPES))],
            color,
            float(size),
            (float(point[0]), float(point[1])),
            _vector(level.pace * v, heading),
            rng.uniform(0, 2 * np.pi),
            math.radians(rng.uniform(-4, 4)),
            math.exp(rng.uniform(-0.18, 0.18)),
            bounce=True,
        )

    objects = list(map(roam, colors, diameters, points))
    alike = []
    for obj in (objects * level.distractors)[: level.distractors]:
        room = 0.55 * obj.diameter
        point = rng.uniform(room, 1 - room, 2)
        other = roam(obj.color, obj.diameter, point)
        alike.append(replace(other, shape=obj.shape))
    return _furnish(
        Scene(corners, tuple(objects)),
        rng,
        level,
        _VOS_SPEED[1],
        4,
        alike,
    )
