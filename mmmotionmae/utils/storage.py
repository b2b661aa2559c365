# Copyright (c) MotionMAE contributors. All rights reserved.
"""Errors of disks and networks, told from those of files."""

import errno
import os
import stat
from pathlib import Path

_STORAGE = {
    getattr(errno, name)
    for name in (
        'EAGAIN',
        'EBUSY',
        'ECONNABORTED',
        'ECONNREFUSED',
        'ECONNRESET',
        'EHOSTDOWN',
        'EHOSTUNREACH',
        'EIO',
        'ENETDOWN',
        'ENETRESET',
        'ENETUNREACH',
        'ENODEV',
        'ENOLINK',
        'ENOTCONN',  # a FUSE mount whose process has died
        'ENXIO',
        'EPIPE',
        'EREMOTEIO',
        'ESHUTDOWN',
        'ESTALE',  # NFS: the server has been restarted
        'ETIMEDOUT',
    )
    if hasattr(errno, name)
}
# What a process or the whole machine lacks.
_SYSTEM = {
    errno.EDQUOT,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOLCK,
    errno.ENOSPC,
    errno.EROFS,
}
_CHUNK = 2**20  # bytes read at a time


def is_storage_error(error: BaseException) -> bool:
    """Tell whether a disk or network has failed, so that trying again helps.

    By its ``errno``, which FFmpeg's errors have, too.
    """
    return getattr(error, 'errno', None) in _STORAGE


def is_system_error(error: BaseException) -> bool:
    """Tell whether the machine lacks something: file handles, disk space."""
    return isinstance(error, OSError) and error.errno in _SYSTEM


def find_storage_error(path: str) -> OSError | None:
    """Read a file, or all files of a folder, to see whether that works.

    Decoders seldom say why they cannot read.

    Returns:
        The error of the disk or network, None if there is none. Other errors,
        such as a missing file, do not count.
    """
    try:
        for file in [path, *_files_in(path)]:
            if stat.S_ISREG(os.stat(file).st_mode):  # others may block
                with open(file, 'rb', buffering=0) as stream:
                    while stream.read(_CHUNK):
                        pass
    except OSError as error:
        if is_storage_error(error):
            return error
    return None


def _files_in(path: str) -> list[str]:
    if not os.path.isdir(path):
        return []
    return sorted(str(file) for file in Path(path).iterdir())
