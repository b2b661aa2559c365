# Copyright (c) MotionMAE contributors. All rights reserved.
"""Moving Shapes: small synthetic videos whose class is their motion.

A solid shape moves over a smooth background. Shape, colours, size,
orientation and position are drawn independently of the motion, so a single
frame does not tell the direction of motion. Two exceptions follow from the
motions themselves: rotation never uses the disc, and in ``approach`` and
``recede`` the size is distributed alike only at the middle of the video.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

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

_SPLITS = {'pretrain': 0, 'train': 1, 'val': 2, 'davis': 3}  # seed words
_VERSION = 1  # raise when the same arguments give other pixels
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

    The object is bright and the background dark: were it either way, the sign
    of a frame difference would not be that of the motion, and a network small
    enough for a CPU would take much longer to learn it.

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


def write_video(
    path: str | os.PathLike[str],
    frames: UInt8Array,
    fps: int = 12,
    crf: int = 18,
) -> None:
    """Encode frames as an H.264 mp4 file (yuv420p, intra frames only).

    The file appears under its name only once it is complete. Missing parent
    folders are made.

    Args:
        path: File to write, replaced if it exists.
        frames: RGB, uint8 (T, H, W, 3).
        fps: Frames per second.
        crf: Constant rate factor of x264, 0 (lossless) to 51.

    Raises:
        ValueError: Wrong shape or dtype, no frames, or an odd side.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(
            'frames must be uint8 (T, H, W, 3), got '
            f'{frames.dtype} {frames.shape}'
        )
    num_frames, height, width = frames.shape[:3]
    if not num_frames or not height or not width or height % 2 or width % 2:
        raise ValueError(
            'yuv420p video needs at least one frame and even '
            f'sides, got {num_frames} of {width}x{height}'
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + '.tmp')
    try:
        with av.open(str(temporary), 'w', format='mp4') as container:
            # Intra frames only (g=1): the residue that an object leaves behind
            # in predicted frames tells its direction, and with B-frames x264
            # codes a video this small differently from run to run.
            stream = container.add_stream(
                'libx264',
                rate=fps,
                width=width,
                height=height,
                pix_fmt='yuv420p',
                options={
                    'crf': str(crf),
                    'g': '1',
                    'preset': 'veryfast',
                    'threads': '1',
                },
            )
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def davis_palette() -> UInt8Array:
    """The PASCAL VOC palette that DAVIS uses, RGB, uint8 (256, 3)."""
    index = np.arange(256, dtype=np.uint8)[:, None]
    bits = np.unpackbits(index, axis=1, bitorder='little')
    # Bits 0, 3, 6 go to red, 1, 4, 7 to green, 2, 5 to blue; lowest first
    # to the top of the channel.
    bits = np.pad(bits, ((0, 0), (0, 1))).reshape(256, 3, 3)
    return np.array([128, 64, 32], np.uint8) @ bits


def _write_davis(
    root: Path, name: str, frames: UInt8Array, masks: UInt8Array
) -> None:
    """Write one sequence as JPEG frames and palette PNG masks."""
    images = root / 'davis/JPEGImages/480p' / name
    annotations = root / 'davis/Annotations/480p' / name
    images.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(parents=True, exist_ok=True)
    for t, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        Image.fromarray(frame).save(images / f'{t:05d}.jpg', quality=95)
        picture = Image.fromarray(mask)
        picture.putpalette(davis_palette().tobytes())  # mode 'L' to 'P'
        picture.save(annotations / f'{t:05d}.png')


def write_dataset(
    root: str | os.PathLike[str],
    num_pretrain: int = 2000,
    num_train: int = 128,
    num_val: int = 500,
    *,
    motions: Sequence[str] = DIRECTIONS,
    num_frames: int = 12,
    size: int = 32,
    fps: int = 12,
    crf: int = 18,
    seed: int = 0,
    num_davis: int = 6,
    davis_frames: int = 20,
    davis_size: int = 128,
    disable: bool = False,
) -> bool:
    """Write the videos, MMAction2 lists and DAVIS sequences.

    The layout under ``root`` (paths in the lists are relative to it)::

        videos/pretrain/00000.mp4          pretrain.txt  (path)
        videos/train/<class>/00000.mp4     train.txt     (path label)
        videos/val/<class>/00000.mp4       val.txt       (path label)
        classes.txt                        davis/        (DAVIS 2017)
        manifest.json                      (the arguments, written last)

    A video depends only on ``seed``, its split and its index there, so a
    larger split starts with the videos of a smaller one.

    Args:
        root: Folder to make. One that an interrupted run left without its
            manifest is written again.
        num_pretrain: Number of unlabelled videos.
        num_train: Number of labelled videos for training.
        num_val: Number of labelled videos for validation.
        motions: Classes, from ``MOTIONS``; the position is the label.
        num_frames: Frames per video.
        size: Side of the videos in pixels, even; best a multiple of 32
            (``get_batch`` of decord 0.6 fails at 16, 24, 48 and 72).
        fps: Frames per second of the videos.
        crf: Constant rate factor of x264.
        seed: Non-negative seed of all random draws.
        num_davis: Number of DAVIS sequences; by turns one and two objects.
        davis_frames: Frames per DAVIS sequence.
        davis_size: Side of the DAVIS frames in pixels.
        disable: Show no progress bar.

    Returns:
        False if ``root`` already held this very data set, else True.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` was made with other arguments or holds
            files that are not of this data set.
    """
    arguments: dict[str, Any] = dict(
        num_pretrain=num_pretrain,
        num_train=num_train,
        num_val=num_val,
        motions=list(motions),
        num_frames=num_frames,
        size=size,
        fps=fps,
        crf=crf,
        seed=seed,
        num_davis=num_davis,
        davis_frames=davis_frames,
        davis_size=davis_size,
    )
    least = dict(
        num_pretrain=0,
        num_train=0,
        num_val=0,
        num_frames=2,
        size=16,
        fps=1,
        crf=0,
        seed=0,
        num_davis=0,
        davis_frames=2,
        davis_size=16,
    )
    for name, low in least.items():
        if arguments[name] < low:
            raise ValueError(
                f'{name} must be at least {low}, got {arguments[name]}'
            )
    if size % 2:
        raise ValueError(f'size must be even for yuv420p, got {size}')
    if (
        not motions
        or not set(motions) <= set(MOTIONS)
        or len(set(motions)) < len(motions)
    ):
        raise ValueError(
            f'motions must be distinct names out of {MOTIONS}, '
            f'got {tuple(motions)}'
        )
    manifest = {
        'generator': 'moving_shapes',
        'version': _VERSION,
        'arguments': arguments,
    }
    root = Path(root)
    counts = {'pretrain': num_pretrain, 'train': num_train, 'val': num_val}
    texts = {f'{split}.txt': '' for split in counts}
    videos = []
    for split, count in counts.items():
        for i in range(count):
            row, label = divmod(i, len(motions))
            folder, suffix = f'{split}/{motions[label]}', f' {label}'
            if split == 'pretrain':
                row, folder, suffix = i, split, ''
            path = f'videos/{folder}/{row:05d}.mp4'
            texts[f'{split}.txt'] += f'{path}{suffix}\n'
            videos.append((path, motions[label], (seed, _SPLITS[split], i)))
    texts['classes.txt'] = ''.join(f'{motion}\n' for motion in motions)
    sequences = [f'shapes-{i:02d}' for i in range(num_davis)]
    if sequences:
        texts['davis/ImageSets/2017/val.txt'] = '\n'.join(sequences) + '\n'
    texts['manifest.json'] = json.dumps(manifest, indent=2) + '\n'

    target = root / 'manifest.json'
    way_out = 'choose another folder or delete this one'
    if target.is_file():
        if target.read_text() == texts['manifest.json']:
            return False
        raise FileExistsError(
            f'{root} was made with other arguments (see its manifest.json): '
            f'{way_out}'
        )
    ours = {*texts, *(path for path, _, _ in videos)}
    for name in sequences:
        for t in range(davis_frames):
            ours.add(f'davis/JPEGImages/480p/{name}/{t:05d}.jpg')
            ours.add(f'davis/Annotations/480p/{name}/{t:05d}.png')
    for file in root.rglob('*'):
        name = file.relative_to(root).as_posix()
        if not file.is_dir() and name.removesuffix('.tmp') not in ours:
            raise FileExistsError(
                f'{root} holds {name}, which is not of this data set: '
                f'{way_out}'
            )
    root.mkdir(parents=True, exist_ok=True)
    with tqdm(
        total=len(videos) + num_davis, desc=root.name, disable=disable
    ) as bar:
        for path, motion, words in videos:
            rng = np.random.default_rng(np.random.SeedSequence(words))
            frames, _ = render(sample_scene(rng, motion), num_frames, size)
            write_video(root / path, frames, fps, crf)
            bar.update()
        for i, name in enumerate(sequences):
            words = (seed, _SPLITS['davis'], i)
            rng = np.random.default_rng(np.random.SeedSequence(words))
            scene = sample_vos_scene(rng, i % 2 + 1)
            _write_davis(root, name, *render(scene, davis_frames, davis_size))
            bar.update()
    for name, text in texts.items():  # the manifest is the last
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        temporary = root / f'{name}.tmp'
        temporary.write_text(text)
        os.replace(temporary, root / name)
    return True
