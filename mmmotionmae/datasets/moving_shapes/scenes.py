# Copyright (c) MotionMAE contributors. All rights reserved.
"""Descriptions of the videos: shapes, textures, motion, light and noise.

The unit of length is the side of the frame, that of time one frame; x points
right, y down, from the top left corner. Colours are RGB, 0 to 255.
"""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[float, ...]
Vector = tuple[float, float]

SHAPES = ('disc', 'square', 'triangle', 'cross')
BAR = 'bar'  # what hides objects; never an object itself


@dataclass(frozen=True)
class Texture:
    """Pattern: a sum of plane waves of one amplitude, seen through a palette.

    The sum is mapped to its rank before it is coloured, so that all textures
    of one palette have one distribution of colours, however many waves they
    have: nothing but the pattern tells them apart.

    Attributes:
        waves: (x, y) wave number, cycles per frame side, of each wave.
        phases: Phase of each wave at the origin, radians.
        palette: Colours of equally spaced ranks, from the lowest sum to the
            highest, with linear interpolation between them.
    """

    waves: tuple[Vector, ...]
    phases: tuple[float, ...]
    palette: tuple[RGB, ...]


@dataclass(frozen=True)
class MovingObject:
    """One shape and its motion.

    Attributes:
        shape: One of ``SHAPES``, or ``BAR``.
        color: Its colour where there is no texture.
        diameter: Diameter of the circumscribed circle at mid-video.
        position: Centre (x, y) in the first frame.
        velocity: (x, y) displacement in the picture per frame.
        angle: Orientation in the first frame in radians.
        spin: Rotation per frame in radians, positive is clockwise.
        zoom: Diameter in the last frame over that in the first one.
        texture: What it is covered with; fixed to the object, its origin is
            the centre. None: one flat colour.
        bounce: False: it re-enters on the other side when it leaves the
            frame (torus). True: it is reflected by the borders.
        labelled: Whether it has a mask id; what has none is background.
    """

    shape: str
    color: RGB
    diameter: float
    position: Vector
    velocity: Vector = (0.0, 0.0)
    angle: float = 0.0
    spin: float = 0.0
    zoom: float = 1.0
    texture: Texture | None = None
    bounce: bool = False
    labelled: bool = True


@dataclass(frozen=True)
class Light:
    """Factor of all colours: a plane that changes linearly with time.

    Attributes:
        first: In the first frame: the factor at the centre, and its rise
            from left to right and from top to bottom.
        last: The same in the last frame.
    """

    first: tuple[float, float, float]
    last: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """Objects over a background, filmed by a camera.

    Attributes:
        corners: Colours at the top left, top right, bottom left and bottom
            right corner of a background without texture, a bilinear gradient.
        objects: Back to front; the labelled ones have mask ids 1, 2, ... in
            this order.
        texture: Of the background, periodic in the frame (whole wave
            numbers); None for the gradient.
        camera: (x, y) displacement of that texture per frame, as the camera
            moves; included in the velocities of the objects.
        light: None for what is constant and even.
        noise: Standard deviation of the sensor's noise, 0 to 255, which is
            white and drawn anew in each frame.
        noise_seed: Of its draw.
    """

    corners: tuple[RGB, ...]
    objects: tuple[MovingObject, ...]
    texture: Texture | None = None
    camera: Vector = (0.0, 0.0)
    light: Light | None = None
    noise: float = 0.0
    noise_seed: int = 0


@dataclass(frozen=True)
class Level:
    """Difficulty of the scenes; level 0 has nothing of what follows.

    Attributes:
        textured: Whether background and objects are covered with textures
            of one palette, so that no colour tells an object.
        grain: Range of the wave lengths of the textures, in sides of the
            frame of a clip; a sequence for segmentation shows four of these
            side by side.
        pace: Speed of the objects over that at level 0, in segmentation; it
            is always the same where the motion is the label.
        camera: Largest speed of the background over that of the fastest
            object at level 0.
        clutter: Small still things that lie about on the background.
        distractors: Twins of an object, without a label: of its shape, size,
            colour and texture. Where the motion is the label they stand
            still, else they move as objects do.
        occluders: Bars in front of everything, fixed to the background.
        light: How much the light may change over time and over the frame,
            relative to the brightest.
        noise: Standard deviation of the sensor's noise, 0 to 255.
    """

    textured: bool = False
    grain: tuple[float, float] = (0.35, 0.6)
    pace: float = 1.0
    camera: float = 0.0
    clutter: int = 0
    distractors: int = 0
    occluders: int = 0
    light: float = 0.0
    noise: float = 0.0


LEVELS = (
    Level(),
    Level(textured=True),
    Level(
        textured=True,
        grain=(0.25, 0.45),
        pace=1.3,
        camera=0.35,
        clutter=3,
        distractors=1,
    ),
    Level(
        textured=True,
        grain=(0.2, 0.35),
        pace=1.6,
        camera=0.35,
        clutter=3,
        distractors=1,
        occluders=1,
        light=0.35,
        noise=8.0,
    ),
)
