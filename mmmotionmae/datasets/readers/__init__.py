# Copyright (c) MotionMAE contributors. All rights reserved.
"""Readers of video files and of folders with frames, with one interface."""

import os

from ...utils.errors import VideoError, VideoTimeoutError
from .base import VideoReader
from .decord_reader import DecordReader
from .frame_folder import IMAGE_EXTENSIONS, FrameFolderReader, list_frames
from .opencv_reader import OpenCVReader
from .pyav_reader import PyAVReader

READERS: dict[str, type[VideoReader]] = dict(
    pyav=PyAVReader, decord=DecordReader, opencv=OpenCVReader
)


def open_video(
    path: str, decoder: str = 'pyav', time_limit: float | None = None
) -> VideoReader:
    """Open a video file.

    Args:
        path: The file.
        decoder: ``'pyav'``, ``'decord'`` or ``'opencv'``.
        time_limit: Seconds that opening and reading may take in all. None:
            no limit.

    Raises:
        VideoError: If it cannot be read.
        ValueError: If there is no such decoder.

    Example::

        with open_video('clip.mp4') as video:
            frames = list(video.frames(range(0, video.num_frames, 4)))
    """
    if decoder not in READERS:
        raise ValueError(
            f'decoder must be one of {", ".join(READERS)}, not {decoder!r}.'
        )
    if not os.path.isfile(path):
        raise VideoError('there is no such file')
    if not os.path.getsize(path):
        raise VideoError('the file is empty')
    # Absolute: FFmpeg takes what is before a colon for a protocol.
    return READERS[decoder](os.path.abspath(path), time_limit)


__all__ = [
    'IMAGE_EXTENSIONS',
    'READERS',
    'DecordReader',
    'FrameFolderReader',
    'OpenCVReader',
    'PyAVReader',
    'VideoError',
    'VideoReader',
    'VideoTimeoutError',
    'list_frames',
    'open_video',
]
