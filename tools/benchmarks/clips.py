# Copyright (c) MotionMAE contributors. All rights reserved.
"""What the data path is measured on: generated clips, or given videos."""

import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from mmmotionmae.apis import UsageError
from mmmotionmae.datasets.annotation import (
    find_frame_folders,
    find_videos,
    read_video_list,
)
from mmmotionmae.datasets.readers import list_frames, open_video
from mmmotionmae.utils.errors import VideoError

JPEG_QUALITY = 95


@dataclass(frozen=True)
class Source:
    """Videos or folders of raw frames, under plain names in one folder.

    Attributes:
        folder: Holds links (or files) and ``list.txt``.
        raw_frames: Whether they are folders of JPEG frames.
        paths: The videos, or the folders, in the order of the list.
        about: What they are, for a reader.
    """

    folder: Path
    raw_frames: bool
    paths: tuple[Path, ...]
    about: str

    @property
    def ann_file(self) -> str:
        """The list: file and label, or folder, frames and label."""
        return str(self.folder / 'list.txt')


def write_clip(
    path: Path,
    seed: int,
    width: int = 340,
    height: int = 256,
    num_frames: int = 300,
    fps: int = 30,
) -> None:
    """Write an H.264 clip with the settings that libx264 has by default.

    A textured background under a moving camera, five textured things that
    move across it, and the noise of a sensor.

    Args:
        path: The file.
        seed: Of everything random in it.
        width: In pixels, even.
        height: In pixels, even.
        num_frames: At least 1.
        fps: Frames per second.
    """
    rng = np.random.default_rng(seed)
    scene = _texture(rng, 2 * height, 2 * width, blur=4)
    side = height // 4
    things = [_texture(rng, side, side, blur=2) for _ in range(5)]
    speeds = rng.uniform(0.01, 0.04, (6, 2))
    phases = rng.uniform(0, 2 * np.pi, (6, 2))
    noise = rng.normal(0, 2, (4, height + 64, width + 64, 3))
    noise = noise.round().astype(np.int16)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=fps)
        stream.width, stream.height = width, height
        stream.pix_fmt = 'yuv420p'
        for time in range(num_frames):
            # Each between 0 and 1, back and forth.
            places = (1 + np.sin(phases + speeds * time)) / 2
            y, x = (places[0] / 2 * (height, width)).astype(int)
            frame = scene[y : y + height, x : x + width].copy()
            for thing, place in zip(things, places[1:], strict=True):
                y, x = (place * (height - side, width - side)).astype(int)
                frame[y : y + side, x : x + side] = thing
            dy, dx = rng.integers(0, 64, 2)
            grain = noise[time % 4, dy : dy + height, dx : dx + width]
            frame = np.clip(frame + grain, 0, 255).astype(np.uint8)
            image = av.VideoFrame.from_ndarray(frame, 'rgb24')
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))


def _texture(
    rng: np.random.Generator, height: int, width: int, blur: float
) -> np.ndarray:
    """Smooth noise: uint8 (height, width, 3), from 0 to 255."""
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)


def generate(folder: Path, count: int, **size: int) -> Source:
    """Write clips.

    Args:
        folder: New or empty.
        count: How many.
        **size: Arguments of :func:`write_clip`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'clip{i:05}.mp4' for i in range(count)]
    for seed, path in enumerate(paths):
        write_clip(path, seed, **size)
    return _source(folder, False, paths, 'generated clips')


def given_videos(
    videos: str, prefix: str | None, folder: Path, limit: int
) -> Source:
    """Videos of a user.

    Args:
        videos: A folder, or a list.
        prefix: Folder to which the paths of the list are relative.
        folder: New or empty; gets links.
        limit: Most videos that are taken, evenly out of all.

    Raises:
        UsageError: If there are none, or one is missing.
    """
    if Path(videos).is_dir():
        root, names = Path(videos), find_videos(videos)
    else:
        root = Path(prefix or '')
        try:
            names = [name for name, _ in read_video_list(videos)]
        except ValueError as error:
            raise UsageError(str(error)) from error
    originals = [root / name for name in _some(names, limit)]
    return _linked(originals, folder, False, 'given videos')


def given_frames(videos: str, folder: Path, limit: int) -> Source | None:
    """Folders of raw frames of a user; None if ``videos`` has none in it."""
    try:
        names = find_frame_folders(videos)
    except FileNotFoundError:
        return None
    originals = [Path(videos) / name for name in _some(names, limit)]
    return _linked(originals, folder, True, 'given raw frames')


def extract_frames(source: Source, folder: Path) -> Source:
    """Write all frames of videos as JPEG files.

    Args:
        source: Videos.
        folder: New or empty.

    Raises:
        UsageError: If a video cannot be read.
    """
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    paths = []
    for number, video in enumerate(source.paths):
        paths.append(folder / f'clip{number:05}')
        paths[-1].mkdir(parents=True)
        with readable(video), open_video(str(video)) as reader:
            frames = reader.frames(range(reader.num_frames))
            for index, frame in enumerate(frames, 1):
                name = str(paths[-1] / f'img_{index:05}.jpg')
                bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
                cv2.imwrite(name, bgr, quality)
    about = f'of these as folders of JPEG frames, quality {JPEG_QUALITY}'
    return _source(folder, True, paths, about)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an unreadable video inside into a mistake of the user's."""
    try:
        yield
    except (VideoError, av.FFmpegError) as error:
        raise UsageError(
            f'{str(path.resolve())!r} cannot be read: {error}. Leave it out.'
        ) from error


def _some(names: list[str], limit: int) -> list[str]:
    """At most ``limit`` of them, evenly spread."""
    count = min(limit, len(names))
    return [names[i * len(names) // count] for i in range(count)]


def _linked(
    originals: list[Path], folder: Path, raw_frames: bool, about: str
) -> Source:
    """Links under plain names, which stock MMAction2's lists can hold."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, original in enumerate(originals):
        if not original.exists():
            raise UsageError(f'There is no file {str(original)!r}.')
        original = original.resolve()
        paths.append(folder / f'clip{number:05}{original.suffix.lower()}')
        if not raw_frames:
            paths[-1].symlink_to(original)
            continue
        paths[-1] = folder / f'clip{number:05}'
        paths[-1].mkdir()
        for index, name in enumerate(list_frames(str(original)), 1):
            link = paths[-1] / f'img_{index:05}.jpg'
            link.symlink_to(original / name)
    return _source(folder, raw_frames, paths, about)


def _source(
    folder: Path, raw_frames: bool, paths: list[Path], about: str
) -> Source:
    """Write the list, and say how large everything is."""
    lines = []
    for label, path in enumerate(paths):
        frames = f' {len(os.listdir(path))}' if raw_frames else ''
        lines.append(f'{path.name}{frames} {label}\n')
    (folder / 'list.txt').write_text(''.join(lines), encoding='utf-8')
    size = _frame_sizes(paths) if raw_frames else _video_sizes(paths)
    return Source(
        folder, raw_frames, tuple(paths), f'{len(paths)} {about}, {size}'
    )


def _frame_sizes(folders: list[Path]) -> str:
    first = [min(folder.iterdir()) for folder in folders]
    kilobytes = statistics.median(p.stat().st_size for p in first) / 1e3
    image = cv2.imread(str(first[0]))
    if image is None:
        raise UsageError(f'{str(first[0].resolve())!r} is no image.')
    height, width = image.shape[:2]
    return f'{width}x{height}, {kilobytes:.0f} kB each'


def _video_sizes(paths: list[Path]) -> str:
    sizes, seconds, rates = set(), [], []
    for path in paths:
        with readable(path), open_video(str(path)) as reader:
            height, width = next(reader.frames([0])).shape[:2]
            sizes.add((width, height))
            seconds.append(reader.num_frames / (reader.fps or 30))
        rates.append(path.stat().st_size * 8e-3 / seconds[-1])
    width, height = min(sizes)
    more = ' and other sizes' if len(sizes) > 1 else ''
    return (
        f'{width}x{height}{more}, {statistics.median(seconds):.1f} s, '
        f'{statistics.median(rates):.0f} kb/s'
    )
