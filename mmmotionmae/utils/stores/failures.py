# Copyright (c) MotionMAE contributors. All rights reserved.
"""Errors of stores, told apart: the file, the storage or a mistake."""

import socket
from collections.abc import Callable
from typing import TypeVar

from ..errors import MMMotionMAEError, StorageError, UsageError, VideoError
from ..storage import is_storage_error, is_system_error

Result = TypeVar('Result')

MISSING = 'there is no such file'
# Answers of HTTP servers that may be others later, of those below 500.
_PASSING = (408, 425, 429)
_STATUS = ('status', 'code', 'status_code')  # of aiohttp, GCS, Azure
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_OURS = (
    AssertionError,
    AttributeError,
    MemoryError,
    NameError,
    NotImplementedError,
    TypeError,
)


def attempt(function: Callable[[], Result]) -> Result:
    """The result of a function, whose errors become ours.

    Raises:
        VideoError: If a file is missing or may not be read.
        StorageError: If the disk or the network fails.
        UsageError: If there are no credentials.
    """
    try:
        return function()
    except Exception as error:
        ours = _translate(error)
        if ours is error:
            raise
        raise ours from error


def _translate(error: BaseException) -> BaseException:
    """Tell a missing file from a storage that fails, and from a mistake."""
    if isinstance(error, MMMotionMAEError) or is_system_error(error):
        return error
    if isinstance(error, _OURS):  # a defect, or a lack of memory
        return error
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause and _of_network(cause):
        # What fsspec makes of all that goes wrong when it asks for a size.
        return _translate(cause)
    if isinstance(error, _MISSING):
        return VideoError(MISSING)
    text = getattr(error, 'strerror', None) or str(error)
    text = ' '.join(text.split('\n')[0].split()) or 'no reason given'
    text = f'{type(error).__name__}: {text}'
    if isinstance(error, PermissionError):
        return VideoError(f'access is denied ({text})')
    if 'Credentials' in type(error).__name__:
        return UsageError(f'There are no valid credentials ({text}).')
    found = (getattr(error, name, None) for name in _STATUS)
    status = next((x for x in found if isinstance(x, int)), 0)
    if status in (404, 410):
        return VideoError(MISSING)
    if 400 <= status < 500 and status not in _PASSING:
        return VideoError(f'the server answers {status} ({text})')
    if isinstance(error, OSError) and not _of_network(error):
        return VideoError(f'it cannot be read ({text})')
    return StorageError(text)


def _of_network(error: BaseException) -> bool:
    """Tell whether an error is one of connections, or does not say."""
    if isinstance(error, (TimeoutError, ConnectionError, socket.gaierror)):
        return True
    if type(error).__module__.split('.')[0] == 'aiohttp':
        return True
    no_number = isinstance(error, OSError) and error.errno is None
    return no_number or is_storage_error(error)
