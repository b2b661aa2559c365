# Copyright (c) MotionMAE contributors. All rights reserved.
"""Readers of video files and of folders with frames, with one interface."""

import os
import stat

from ...utils.errors import (
    StorageError,
    UsageError,
    VideoError,
    VideoTimeoutError,
)
from ...utils.storage import is_storage_error
from .base import VideoReader
from .decord_reader import DecordReader
from .frame_folder import IMAGE_EXTENSIONS, FrameFolderReader, list_frames
from .opencv_reader import OpenCVReader
from .pyav_reader import PyAVReader

READERS: dict[str, type[VideoReader]] = dict(
    pyav=PyAVReader, decord=DecordReader, opencv=OpenCVReader
)


def check_decoder(decoder: str) -> None:
    """Raise a :class:`UsageError` if there is no such decoder."""
    if decoder not in READERS:
        raise UsageError(
            f'decoder must be one of {", ".join(READERS)}, not {decoder!r}.'
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
        StorageError: If the disk or the network fails.
        UsageError: If there is no such decoder.

    Example::

        with open_video('clip.mp4') as video:
            frames = list(video.frames(range(0, video.num_frames, 4)))
    """
    check_decoder(decoder)
    try:
        status = os.stat(path)
    except ValueError as error:  # a zero byte in the name
        raise VideoError('there is no such file') from error
    except OSError as error:
        if is_storage_error(error):
            raise StorageError(error.strerror) from error
        raise VideoError('there is no such file') from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError('there is no such file')
    if not status.st_size:
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
    'check_decoder',
    'list_frames',
    'open_video',
]
