# Copyright (c) MotionMAE contributors. All rights reserved.
"""Stores that files are read from: this machine, fsspec, MMEngine's."""

import os
import random
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mmengine.fileio import get_file_backend
from mmengine.fileio.backends.registry_utils import backends

from ..deadlines import Deadline
from ..errors import StorageError, UsageError, VideoError
from .failures import MISSING, attempt
from .names import is_url

Result = TypeVar('Result')

EXTRA = "pip install 'mmmotionmae[remote]'"
_DELAYS = (0.2, 1.0, 4.0)
# Of what fsspec tells of a file, that which changes with it.
_STAMPS = (
    *('size', 'ETag', 'etag', 'mtime', 'updated'),
    *('LastModified', 'Last-Modified', 'last_modified'),
)
_MAX_SIZES = 100_000


class Store(ABC):
    """Files of one kind of storage, read in pieces."""

    @abstractmethod
    def size(self, path: str, deadline: Deadline) -> int | None:
        """Bytes of a file; None if that cannot be known.

        Raises:
            VideoError: If there is no such file.
            StorageError: If the storage fails.
        """

    @abstractmethod
    def read(
        self,
        path: str,
        start: int,
        end: int | None,
        deadline: Deadline,
    ) -> bytes:
        """The bytes in [start, end); to the end of the file with None.

        Raises:
            VideoError: If there is no such file.
            StorageError: If the storage fails, or gives fewer bytes.
            UsageError: If this store reads whole files only.
        """

    def stamp(self, path: str, deadline: Deadline) -> str:
        """Size, time or checksum of a file: it changes when the file does."""
        return str(self.size(path, deadline))


class LocalStore(Store):
    """Files of this machine."""

    def size(self, path: str, deadline: Deadline) -> int:
        """Size of a file, in bytes."""
        return attempt(lambda: self._stat(path)).st_size

    def stamp(self, path: str, deadline: Deadline) -> str:
        """Size and time of a file."""
        status = attempt(lambda: self._stat(path))
        return f'{status.st_size} {status.st_mtime_ns}'

    @staticmethod
    def _stat(path: str) -> os.stat_result:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # others may block
            raise VideoError(MISSING)
        return status

    def read(
        self, path: str, start: int, end: int | None, deadline: Deadline
    ) -> bytes:
        """Bytes of a part of a file."""

        def read() -> bytes:
            with open(path, 'rb') as file:
                file.seek(start)
                data = file.read(-1 if end is None else end - start)
            return _whole(data, start, end)

        return attempt(read)


class PatientStore(Store):
    """Files behind a network: what fails is tried again after a while.

    Args:
        delays: Seconds to wait before a request is repeated, once for each;
            each is varied by half, so that many readers do not come together.
            None: 0.2, 1 and 4.
        sleep: What waits, given seconds.
    """

    def __init__(
        self,
        delays: Sequence[float] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._delays = tuple(_DELAYS if delays is None else delays)
        self._sleep = sleep

    def _patiently(
        self, request: Callable[[], Result], deadline: Deadline
    ) -> Result:
        """The result of a request that may be repeated."""
        for delay in (*self._delays, None):
            deadline.check()
            try:
                return attempt(request)
            except StorageError:
                left = deadline.left()
                if left is not None and not left:
                    raise deadline.error() from None
                if delay is None or (left is not None and left < delay):
                    raise
                # A generator of its own: those of the samples stay as seeded.
                self._sleep(delay * random.Random().uniform(0.5, 1.5))
        raise AssertionError('unreachable')


class FsspecStore(PatientStore):
    """Files that fsspec reaches: S3, GCS, Azure, HTTP, HDFS and others.

    Args:
        request_timeout: Seconds that one request may take, where the file
            system is asynchronous, as those of object stores and HTTP are.
        retry_delays: See :class:`PatientStore`.
        sleep: Likewise.
        **options: Of the file system: ``key``, ``endpoint_url`` and so on.
    """

    def __init__(
        self,
        request_timeout: float = 30.0,
        retry_delays: Sequence[float] | None = None,
        sleep: Callable[[float], object] = time.sleep,
        **options: Any,
    ) -> None:
        super().__init__(retry_delays, sleep)
        self._timeout = request_timeout
        self._options = options
        self._sizes: dict[str, int | None] = {}

    def size(self, path: str, deadline: Deadline) -> int | None:
        """Size of a file, in bytes, asked for once: shards share it."""
        if path not in self._sizes:
            size = self._info(path, deadline).get('size')
            if len(self._sizes) >= _MAX_SIZES:
                self._sizes.clear()
            self._sizes[path] = size
        return self._sizes[path]

    def stamp(self, path: str, deadline: Deadline) -> str:
        """Size and time of a file."""
        info = self._info(path, deadline)
        return ' '.join(str(info[name]) for name in _STAMPS if name in info)

    def _info(self, path: str, deadline: Deadline) -> dict:
        info = self._patiently(
            lambda: self._ask('info', path, deadline), deadline
        )
        if info.get('type') == 'directory':
            raise VideoError(MISSING)
        return info

    def read(
        self, path: str, start: int, end: int | None, deadline: Deadline
    ) -> bytes:
        """Bytes of a part of a file."""
        limits: dict[str, Any] = dict(start=start, end=end)
        if not start and end is not None and end == self._sizes.get(path):
            limits = {}  # then servers need not know ranges

        def read() -> bytes:
            data = self._ask('cat_file', path, deadline, **limits)
            if end is not None and len(data) != end - start:
                self._sizes.pop(path, None)  # the file may be another now
            if limits and end is not None and len(data) > end - start:
                raise UsageError(
                    f'The server of {path!r} does not answer range requests, '
                    'which large files and members of tar shards need.'
                )
            return _whole(data, start, end)

        return self._patiently(read, deadline)

    def _ask(
        self, method: str, path: str, deadline: Deadline, **kwargs: Any
    ) -> Any:
        system, path = self._file_system(path)
        if not system.async_impl:
            return getattr(system, method)(path, **kwargs)
        from fsspec.asyn import sync

        left = deadline.left()
        timeout = self._timeout if left is None else min(left, self._timeout)
        request = getattr(system, f'_{method}')
        timeout = timeout or 1e-3  # 0 would mean no limit
        try:
            return sync(system.loop, request, path, timeout=timeout, **kwargs)
        except (TypeError, FileNotFoundError) as error:
            wrong = error if isinstance(error, TypeError) else error.__cause__
            if not (self._options and isinstance(wrong, TypeError)):
                raise
            raise self._refusal(path, wrong) from error

    def _file_system(self, path: str) -> tuple[Any, str]:
        """The file system, of this process and thread, and the path in it.

        fsspec keeps it, and makes another after a fork: its loop runs in a
        thread, which no fork copies.
        """
        try:
            from fsspec.core import url_to_fs

            return url_to_fs(path, **self._options)
        except ImportError as error:
            raise UsageError(
                f'{path!r} cannot be read ({error}): {EXTRA}'
            ) from error
        except Exception as error:
            raise self._refusal(path, error) from error

    @staticmethod
    def _refusal(path: str, error: BaseException) -> UsageError:
        return UsageError(
            f'{path!r} cannot be read with these backend_args: {error}'
        )


class WholeFileStore(PatientStore):
    """Files that one of MMEngine's back ends reads, each as a whole.

    Args:
        backend_args: MMEngine's, with ``backend``.
    """

    def __init__(self, backend_args: dict) -> None:
        super().__init__()
        self._backend_args = backend_args
        self._name = backend_args['backend']
        self._backend: Any = None

    def size(self, path: str, deadline: Deadline) -> None:
        """Unknown."""

    def read(
        self, path: str, start: int, end: int | None, deadline: Deadline
    ) -> bytes:
        """Size of a file, in bytes."""
        if start or end is not None:
            raise UsageError(
                f'backend={self._name!r} reads whole files only, no members '
                f'of tar shards, such as of {path!r}: take backend="fsspec".'
            )
        data = self._patiently(lambda: self._open().get(path), deadline)
        if data is None:  # as Petrel has it
            raise VideoError(MISSING)
        return bytes(data)

    def _open(self) -> Any:
        if self._backend is None:
            try:
                self._backend = get_file_backend(
                    backend_args=dict(self._backend_args)
                )
            except Exception as error:
                raise UsageError(
                    f'MMEngine cannot make a back end of {self._name!r}: '
                    f'{error}'
                ) from error
        return self._backend


_stores: dict[tuple[int, str], Store] = {}


def find_store(name: str, backend_args: dict | None = None) -> Store:
    """The store that a file is read from; one for each process.

    Args:
        name: Path, URL or member of a shard.
        backend_args: MMEngine's, with ``backend``: ``'local'``,
            ``'petrel'``, ``'http'`` and so on; or arguments of
            :class:`FsspecStore`, with ``backend='fsspec'`` or without. Paths
            of this machine do without fsspec.

    Raises:
        UsageError: If there is no such back end, or its arguments are wrong.
    """
    args = dict(backend_args or {})
    kind = args.get('backend', 'fsspec')
    if kind == 'local' or (kind == 'fsspec' and not is_url(name)):
        return LocalStore()
    key = os.getpid(), repr(sorted(args.items()))
    if key not in _stores:
        if kind == 'fsspec':
            args.pop('backend', None)
            _stores[key] = FsspecStore(**args)
        elif kind in backends:
            _stores[key] = WholeFileStore(args)
        else:
            raise UsageError(
                f'backend_args: there is no backend {kind!r}, but fsspec, '
                f'{", ".join(backends)}.'
            )
    return _stores[key]


def _whole(data: bytes, start: int, end: int | None) -> bytes:
    if end is not None and len(data) != end - start:
        raise StorageError(f'{len(data)} bytes came instead of {end - start}')
    return data
