# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files of stores, opened and read."""

import io
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

from ..deadlines import Deadline
from ..errors import VideoError
from .backends import Store, find_store
from .names import Member, find_member

HEADER = 512  # bytes before the content of a member
# Files up to this size are read at once, larger ones in blocks, of which the
# last few used are kept: so much memory each of both may take.
WHOLE = 32 * 2**20
BLOCK = 4 * 2**20
NUM_BLOCKS = WHOLE // BLOCK


class WholeFile(io.BytesIO):
    """A file in memory.

    Attributes:
        name (str): Its name; decoders guess formats by its ending.
    """

    name = ''


class BlockFile(io.RawIOBase):
    """A file that is read in blocks, where it is read.

    Args:
        read: Gives the bytes in [start, end).
        size: Of the file, in bytes.
        name: See :class:`WholeFile`.
        block: Size of a block, in bytes.
        num_blocks: How many are kept, those that were used last.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        size: int,
        name: str,
        block: int = BLOCK,
        num_blocks: int = NUM_BLOCKS,
    ) -> None:
        self.name = name
        self._read, self._size = read, size
        self._block, self._num_blocks = block, num_blocks
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Position of the byte that is read next."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Choose where the next byte is read."""
        start = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self._size,
        }[whence]
        if start + offset < 0:
            raise ValueError(f'negative position {start + offset}')
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read at most to the end of a block."""
        if self._position >= self._size:
            return 0
        number, skip = divmod(self._position, self._block)
        view = memoryview(buffer).cast('B')
        data = memoryview(self._load(number))[skip : skip + len(view)]
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _load(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        if len(self._blocks) >= self._num_blocks:
            self._blocks.popitem(last=False)
        start = number * self._block
        end = min(start + self._block, self._size)
        self._blocks[number] = self._read(start, end)
        return self._blocks[number]

    def close(self) -> None:
        """Let go of the blocks."""
        self._blocks.clear()
        super().close()


def open_file(
    name: str,
    backend_args: dict | None = None,
    deadline: Deadline | None = None,
) -> BinaryIO:
    """Open a file, wherever it is.

    Args:
        name: Path, URL, or member of a shard: ``shard.tar@offset@size``.
        backend_args: See :func:`find_store`.
        deadline: When to give up. None: never, but for the time-out of
            single requests.

    Returns:
        It can seek; ``name`` is the file's own, or the member's. It takes
        at most 32 MiB of memory, unless its size is unknown before it is
        read or a back end of MMEngine's reads it, and none once closed.

    Raises:
        VideoError: If there is no such file, it is empty, or a member is not
            where it should be.
        StorageError: If the disk or the network fails, in the end.
        UsageError: If the file cannot be read with what is installed, or
            with these ``backend_args``.
    """
    deadline = deadline or Deadline(None)
    store, member = find_store(name, backend_args), find_member(name)
    if member is not None:
        return _open_member(store, member, deadline)
    size = store.size(name, deadline)
    if size is not None and size > WHOLE:
        return _in_blocks(store, name, 0, size, name, deadline)
    data = store.read(name, 0, size, deadline)
    if not data:
        raise VideoError('the file is empty')
    return _in_memory(data, name)


def read_file(
    name: str,
    backend_args: dict | None = None,
    deadline: Deadline | None = None,
) -> bytes:
    """Read a whole file, wherever it is; see :func:`open_file`."""
    with open_file(name, backend_args, deadline) as file:
        return b''.join(iter(lambda: file.read(BLOCK), b''))


def stamp_of(name: str, backend_args: dict | None = None) -> str:
    """Text that changes when a file, or the shard that it is in, changes.

    Raises:
        VideoError: If there is no such file.
        StorageError: If the disk or the network fails, in the end.
    """
    member = find_member(name)
    store = find_store(name, backend_args)
    return store.stamp(member.shard if member else name, Deadline(None))


def _open_member(store: Store, member: Member, deadline: Deadline) -> BinaryIO:
    """Open the content of a member, if there is one that fits the name."""
    shard, offset, size = member
    start, end = offset - HEADER, offset + size
    total = store.size(shard, deadline)
    if start < 0 or (total is not None and end > total):
        raise VideoError(
            f'the shard has no such member, since it has {total} bytes'
        )
    if not size:
        raise VideoError('the file is empty')
    whole = size <= WHOLE
    data = store.read(shard, start, end if whole else offset, deadline)
    try:
        header = tarfile.TarInfo.frombuf(data[:HEADER], 'utf-8', 'replace')
    except tarfile.HeaderError as error:
        raise VideoError(
            'the shard has no member there; was it packed anew after the '
            'list had been written?'
        ) from error
    if header.size != size:
        raise VideoError(
            f'the member has {header.size} bytes, not {size}; was the shard '
            'packed anew after the list had been written?'
        )
    if whole:
        return _in_memory(data[HEADER:], header.name)
    return _in_blocks(store, shard, offset, size, header.name, deadline)


def _in_memory(data: bytes, name: str) -> BinaryIO:
    file = WholeFile(data)
    file.name = name
    return file


def _in_blocks(
    store: Store,
    path: str,
    offset: int,
    size: int,
    name: str,
    deadline: Deadline,
) -> Any:
    def read(start: int, end: int) -> bytes:
        return store.read(path, offset + start, offset + end, deadline)

    return BlockFile(read, size, name)
