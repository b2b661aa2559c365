# Copyright (c) MotionMAE contributors. All rights reserved.
"""Readers of video files and of folders with frames, with one interface."""

import os
import shutil
import stat
from typing import BinaryIO

from ...utils.deadlines import Deadline
from ...utils.errors import (
    StorageError,
    UsageError,
    VideoError,
    VideoTimeoutError,
)
from ...utils.storage import is_storage_error
from ...utils.stores import find_member, is_plain, open_file
from .base import VideoReader, naming
from .decord_reader import DecordReader
from .frame_folder import IMAGE_EXTENSIONS, FrameFolderReader, list_frames
from .opencv_reader import OpenCVReader
from .pyav_reader import PyAVReader

_MAX_COPY = 2**30  # bytes

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
    path: str,
    decoder: str = 'pyav',
    time_limit: float | None = None,
    backend_args: dict | None = None,
) -> VideoReader:
    """Open a video file.

    Args:
        path: The file: a path, a URL such as ``s3://bucket/a.mp4``, or a
            member of an uncompressed tar file, ``shard.tar@offset@size``.
        decoder: ``'pyav'``, ``'decord'`` or ``'opencv'``; the latter two
            take a copy in memory of what is no file of its own here.
        time_limit: Seconds that opening and reading may take in all. None:
            no limit.
        backend_args: What reaches the file, as for MMEngine:
            ``dict(backend='petrel', ...)``; or ``dict(backend='fsspec',
            ...)`` with arguments of
            :class:`~mmmotionmae.utils.stores.backends.FsspecStore`. None: the
            file system, or fsspec for a URL.

    Raises:
        VideoError: If it cannot be read.
        StorageError: If the disk or the network fails.
        UsageError: If there is no such decoder, or a package is missing.

    Example::

        with open_video('clip.mp4') as video:
            frames = list(video.frames(range(0, video.num_frames, 4)))
    """
    check_decoder(decoder)
    if backend_args or not is_plain(path):
        return _open_stored(path, decoder, time_limit, backend_args)
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


def _open_stored(
    path: str,
    decoder: str,
    time_limit: float | None,
    backend_args: dict | None,
) -> VideoReader:
    """Open a file of a store, or a member of a shard."""
    deadline = Deadline(time_limit)
    file = open_file(path, backend_args, deadline)
    member = file.name if find_member(path) else ''
    reader: VideoReader
    try:
        with naming(member):
            if decoder == 'pyav':
                reader = PyAVReader(path, deadline, file)
            else:
                copy = _copy_to_memory(file, decoder)
                file.close()
                file = copy
                name = f'/proc/self/fd/{file.fileno()}'
                reader = READERS[decoder](name, deadline)
                reader.file = file
    except BaseException:
        file.close()
        raise
    reader.member = member
    return reader


def _copy_to_memory(file: BinaryIO, decoder: str) -> BinaryIO:
    """A file without a place on disk, which goes when it is closed."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > _MAX_COPY:
        raise VideoError(
            f'{decoder} needs a copy in memory, but it has {size / 1e9:.1f} '
            f'GB, more than {_MAX_COPY / 1e9:.1f}; pyav reads it in pieces'
        )
    copy = open(os.memfd_create('video', os.MFD_CLOEXEC), 'w+b')
    shutil.copyfileobj(file, copy, 2**20)
    copy.flush()
    return copy


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
