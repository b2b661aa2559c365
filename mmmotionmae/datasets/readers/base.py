# Copyright (c) MotionMAE contributors. All rights reserved.
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ...utils.deadlines import Deadline
from ...utils.errors import VideoError

Frame = npt.NDArray[np.uint8]


@contextmanager
def naming(member: str) -> Iterator[None]:
    """Add to errors which member of a tar shard they are about.

    Args:
        member: Its name; ``''``: errors stay as they are.
    """
    try:
        yield
    except VideoError as error:
        if member:
            error.args = (f'{error} ({member!r} in the shard)',)
        raise


class VideoReader(ABC):
    """Frames of one video, by their position in display order.

    A context manager; every reader decodes in one thread and honours the
    rotation that the file asks for.

    Args:
        path: The file, or the folder of frames.
        time_limit: Seconds that opening and reading may take in all, or the
            deadline that has begun. None: no limit.
        file: What is read in place of ``path``, or keeps it in being; closed
            with the reader.

    Attributes:
        num_frames (int): Number of frames, at least 1.
        fps (float): Average frames per second; 0 where unknown.
        member (str): Name in a tar shard, which errors tell; ``''`` for none.

    Raises:
        VideoError: If it is not a video, here or when frames are read.
    """

    num_frames: int
    fps: float
    member = ''

    def __init__(
        self,
        path: str,
        time_limit: float | Deadline | None = None,
        file: BinaryIO | None = None,
    ) -> None:
        self.path = path
        self.file = file
        if not isinstance(time_limit, Deadline):
            time_limit = Deadline(time_limit)
        self.deadline = time_limit

    @abstractmethod
    def _frames(self, indices: list[int]) -> Iterator[Frame]:
        """Frames at ascending, different indices, all in range."""

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Decode some frames, one at a time.

        Args:
            indices: Ascending and different, in [0, ``num_frames``).

        Yields:
            For each index a frame, RGB uint8 (H, W, 3), which the caller may
            change.

        Raises:
            VideoError: If one cannot be decoded.
            IndexError: If an index is out of range.
            ValueError: If the indices do not ascend.
        """
        wanted = [int(index) for index in indices]
        if any(a >= b for a, b in zip(wanted, wanted[1:], strict=False)):
            raise ValueError('Frame indices must ascend.')
        if wanted and not 0 <= wanted[0] <= wanted[-1] < self.num_frames:
            raise IndexError(
                f'Frames {wanted[0]} to {wanted[-1]} are asked for, but '
                f'there are {self.num_frames}.'
            )
        with naming(self.member):
            yield from self._frames(wanted)

    def lost(self, index: int, cause: object = '') -> VideoError:
        """The error for a frame that cannot be decoded."""
        reason = f'frame {index} of {self.num_frames} cannot be decoded'
        return VideoError(f'{reason}: {cause}' if cause else reason)

    def close(self) -> None:
        """Give back the file."""
        if self.file is not None:
            self.file.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
