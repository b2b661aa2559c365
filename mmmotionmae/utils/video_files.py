# Copyright (c) MotionMAE contributors. All rights reserved.
"""Video files and animated pictures, written."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from .files import complete_file

UInt8Array = npt.NDArray[np.uint8]


@contextmanager
def video_writer(
    path: Path, fps: int, crf: int = 18, **options: str
) -> Iterator[Callable[[UInt8Array], None]]:
    """Write an H.264 mp4 file (yuv420p) frame by frame.

    The file appears under its name only once it is complete. Missing parent
    folders are made.

    Args:
        path: File to write, replaced if it exists.
        fps: Frames per second.
        crf: Constant rate factor of x264, 0 (lossless) to 51.
        **options: Others of x264's.

    Yields:
        Takes a frame, RGB, uint8 (H, W, 3). All have one size; where a side
        is odd, its last pixels are repeated once.
    """
    with complete_file(path) as temporary:
        with av.open(str(temporary), 'w', format='mp4') as container:
            stream = container.add_stream(
                'libx264',
                rate=fps,
                pix_fmt='yuv420p',
                options=dict(crf=str(crf), preset='veryfast', **options),
            )

            def add_frame(frame: UInt8Array) -> None:
                height, width = frame.shape[:2]
                frame = np.pad(
                    frame,
                    ((0, height % 2), (0, width % 2), (0, 0)),
                    mode='edge',
                )
                if not stream.codec_context.is_open:
                    stream.height, stream.width = frame.shape[:2]
                picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
                container.mux(stream.encode(picture))

            yield add_frame
            container.mux(stream.encode(None))


def write_gif(path: Path, frames: UInt8Array, fps: int) -> None:
    """Write an animated GIF that repeats for ever.

    The file appears under its name only once it is complete. Missing parent
    folders are made.

    Args:
        path: File to write, replaced if it exists.
        frames: RGB, uint8 (T, H, W, 3); at least one. Each gets a palette of
            256 colours.
        fps: Frames per second; GIF counts in hundredths of a second.
    """
    first, *others = [Image.fromarray(frame) for frame in frames]
    with complete_file(path) as temporary:
        first.save(
            temporary,
            'GIF',
            save_all=True,
            append_images=others,
            duration=round(1000 / fps),
            loop=0,
        )


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
    # Intra frames only (g=1): the residue that an object leaves behind in
    # predicted frames tells its direction, and with B-frames x264 codes a
    # video this small differently from run to run.
    with video_writer(Path(path), fps, crf, g='1', threads='1') as add_frame:
        for frame in frames:
            add_frame(frame)
