# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from ..fileio import complete_file

UInt8Array = npt.NDArray[np.uint8]


@contextmanager
def video_writer(
    path: Path, fps: int
) -> Iterator[Callable[[UInt8Array], None]]:
    """Write an H.264 mp4 file (yuv420p) frame by frame.

    The file appears under its name only once it is complete. Missing parent
    folders are made.

    Args:
        path: File to write, replaced if it exists.
        fps: Frames per second.

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
                options={'crf': '18', 'preset': 'veryfast'},
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
