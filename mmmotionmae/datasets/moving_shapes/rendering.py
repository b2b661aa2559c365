# Copyright (c) MotionMAE contributors. All rights reserved.
"""Frames and masks of the scenes.

Shapes: T frames, H W rows and columns, S side of the frame, all in pixels.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from .scenes import BAR, SHAPES, Light, MovingObject, Scene, Texture

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

_SUPERSAMPLE, _SHIFT = 8, 4  # antialiasing factor, cv2 fractional bits


def _outline(shape: str) -> npt.NDArray[np.complex128]:
    """Vertices ``x + iy`` of a shape inscribed in a circle of diameter 1."""
    if shape == 'cross':
        arm = np.array([2.5 + 1j, 1 + 1j, 1 + 2.5j])
        cross = np.outer(1j ** np.arange(4), arm).ravel()
        return np.asarray(cross / (2 * abs(arm[0])))
    if shape == BAR:
        bar = np.array([6 + 1j, -6 + 1j, -6 - 1j, 6 - 1j])
        return np.asarray(bar / (2 * abs(bar[0])))
    corners = {'disc': 64, 'square': 4, 'triangle': 3}[shape]
    return np.asarray(np.exp(2j * np.pi * np.arange(corners) / corners) / 2)


_OUTLINES = {shape: _outline(shape) for shape in (*SHAPES, BAR)}


def _centres(obj: MovingObject, num_frames: int) -> npt.NDArray[np.float64]:
    """Centre (T, 2) of an object."""
    steps = np.arange(num_frames)[:, None]
    centres = np.array(obj.position) + steps * np.array(obj.velocity)
    if not obj.bounce:
        return np.asarray(centres % 1)
    # Triangle wave between the margins that the largest size needs.
    margin = 0.5 * obj.diameter * max(obj.zoom, 1 / obj.zoom) ** 0.5
    span = 1 - 2 * margin
    return np.asarray(
        margin + span - np.abs((centres - margin) % (2 * span) - span)
    )


def _zooms(obj: MovingObject, num_frames: int) -> npt.NDArray[np.float64]:
    """Size (T,) of an object over that at mid-video."""
    phases = np.arange(num_frames) - (num_frames - 1) / 2
    return np.asarray(obj.zoom ** (phases / max(num_frames - 1, 1)))


def _coverage(obj: MovingObject, num_frames: int, size: int) -> Float32Array:
    """Share (T, S, S) of each pixel that an object covers."""
    # Objects on the torus show wrapped copies of themselves.
    offsets = np.mgrid[-1:2, -1:2].reshape(2, 9).T
    if obj.bounce:
        offsets = np.zeros((1, 2))
    canvas = np.empty((size * _SUPERSAMPLE,) * 2, np.uint8)
    covers = np.empty((num_frames, size, size), np.float32)
    centres, zooms = _centres(obj, num_frames), _zooms(obj, num_frames)
    for t, (centre, zoom) in enumerate(zip(centres, zooms, strict=True)):
        turn = np.exp(1j * (obj.angle + t * obj.spin))
        outline = obj.diameter * zoom * turn * _OUTLINES[obj.shape]
        polygons = (centre + offsets)[:, None] + np.stack(
            [outline.real, outline.imag], axis=-1
        )
        # cv2 puts integer coordinates at the pixel centres.
        fine = polygons * size * _SUPERSAMPLE - 0.5
        canvas[:] = 0
        cv2.fillPoly(
            canvas,
            list(np.rint(fine * 2**_SHIFT).astype(np.int32)),
            (255,),
            shift=_SHIFT,
        )
        covers[t] = cv2.resize(
            canvas, (size, size), interpolation=cv2.INTER_AREA
        )
    covers /= 255
    return covers


def _pixel_centres(size: int) -> Float32Array:
    centres = np.arange(size, dtype=np.float32)
    centres += 0.5
    centres /= size
    return centres


@lru_cache
def _ranks(num_waves: int) -> tuple[Float32Array, Float32Array]:
    """Sums of so many unit waves at random phases, and their ranks, 0 to 1."""
    rng = np.random.default_rng(num_waves)
    waves = np.cos(rng.uniform(0, 2 * np.pi, (num_waves, 1 << 16)))
    ranks = np.linspace(0, 1, 129)
    sums = np.quantile(waves.sum(0), ranks)
    return sums.astype(np.float32), ranks.astype(np.float32)


def _paint(texture: Texture, x: Float32Array, y: Float32Array) -> Float32Array:
    """Colours (..., 3) of a texture at places of these coordinates."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for (wave_x, wave_y), phase in zip(
        texture.waves, texture.phases, strict=True
    ):
        x_part = np.float32(2 * np.pi * wave_x) * x
        y_part = np.float32(2 * np.pi * wave_y) * y + np.float32(phase)
        total += np.cos(x_part + y_part)
    sums, ranks = _ranks(len(texture.waves))
    # Through a table: the rank of the sum, and the colour of the rank.
    palette = np.array(texture.palette, np.float32)
    stops = np.linspace(0, 1, len(palette))
    places = np.linspace(sums[0], sums[-1], 1024)
    table = np.stack(
        [
            np.interp(np.interp(places, sums, ranks), stops, channel)
            for channel in palette.T
        ],
        axis=-1,
    ).astype(np.float32)
    scale = (len(table) - 1) / (sums[-1] - sums[0])
    index = np.rint((total - sums[0]) * scale).astype(np.int32)
    return table[np.clip(index, 0, len(table) - 1)]


def _paint_object(
    obj: MovingObject, texture: Texture, num_frames: int, size: int
) -> Float32Array:
    """Colours (T, S, S, 3) of a textured object and its continuation."""
    pixels = _pixel_centres(size)
    centres = _centres(obj, num_frames).astype(np.float32)
    x = pixels - centres[:, :1]
    y = pixels - centres[:, 1:]
    if not obj.bounce:  # the nearest of the wrapped copies
        x, y = (x + 0.5) % 1 - 0.5, (y + 0.5) % 1 - 0.5
    turns = np.exp(-1j * (obj.angle + np.arange(num_frames) * obj.spin))
    turns = turns / _zooms(obj, num_frames)
    cosine, sine = turns[:, None].real, turns[:, None].imag
    cosine, sine = cosine.astype(np.float32), sine.astype(np.float32)
    return _paint(
        texture,
        (cosine * x)[:, None] - (sine * y)[..., None],
        (sine * x)[:, None] + (cosine * y)[..., None],
    )


def _background(scene: Scene, num_frames: int, size: int) -> Float32Array:
    """Colours (T, S, S, 3) of what is behind the objects."""
    pixels = _pixel_centres(size)
    if scene.texture:
        steps = np.arange(num_frames, dtype=np.float32)[:, None]
        x = pixels - steps * np.float32(scene.camera[0])
        y = pixels - steps * np.float32(scene.camera[1])
        return _paint(scene.texture, x[:, None], y[..., None])
    w = pixels[:, None]
    top_left, top_right, low_left, low_right = np.array(
        scene.corners, np.float32
    )
    left = (1 - w) * top_left + w * low_left
    right = (1 - w) * top_right + w * low_right
    still = (1 - w) * left[:, None] + w * right[:, None]
    return np.repeat(still[None], num_frames, axis=0)


def _brightness(light: Light, num_frames: int, size: int) -> Float32Array:
    """Factor (T, S, S) of the colours."""
    w = np.linspace(0, 1, num_frames)[:, None]
    planes = (1 - w) * np.array(light.first) + w * np.array(light.last)
    level, right, down = planes.T[..., None, None]
    pixels = _pixel_centres(size) - 0.5
    factor = level + right * pixels + down * pixels[:, None]
    return np.asarray(factor, np.float32)


def render(
    scene: Scene, num_frames: int, size: int
) -> tuple[UInt8Array, UInt8Array]:
    """Render a scene with antialiasing; it looks alike at every size.

    Noise apart, which is white at every size.

    Args:
        scene: What to draw.
        num_frames: Number of frames T.
        size: Frame side S in pixels.

    Returns:
        RGB frames, uint8 (T, S, S, 3), and masks, uint8 (T, S, S): the id of
        the foremost of those that cover at least half of the pixel if it is
        labelled, else 0. The first labelled object has id 1.
    """
    video = _background(scene, num_frames, size)
    masks = np.zeros((num_frames, size, size), np.uint8)
    num_labels = 0
    for obj in scene.objects:
        alpha = _coverage(obj, num_frames, size)
        num_labels += obj.labelled
        masks[alpha >= 0.5] = num_labels if obj.labelled else 0
        color = np.array(obj.color, np.float32)
        if obj.texture:
            color = _paint_object(obj, obj.texture, num_frames, size)
        video += alpha[..., None] * (color - video)
    if scene.light:
        video *= _brightness(scene.light, num_frames, size)[..., None]
    if scene.noise:
        rng = np.random.default_rng(scene.noise_seed)
        noise = rng.standard_normal(video.shape, np.float32)
        video += np.float32(scene.noise) * noise
    return np.rint(video).clip(0, 255).astype(np.uint8), masks
