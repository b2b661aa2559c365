# Copyright (c) MotionMAE contributors. All rights reserved.
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ...utils.errors import (
    StorageTimeoutError,
    VideoError,
    VideoTimeoutError,
)

Frame = npt.NDArray[np.uint8]


class Deadline:
    """A limit on the time that one video may take.

    Args:
        seconds: Counted from now. None: no limit.
        clock: What they are measured with.
        work_clock: Likewise the seconds that this process has computed.
    """

    def __init__(
        self,
        seconds: float | None,
        clock: Callable[[], float] = time.monotonic,
        work_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._work_clock = work_clock
        self._work_before = work_clock()
        self.end = None if seconds is None else clock() + seconds

    def check(self) -> None:
        """Raise a :class:`VideoTimeoutError` once the time is over."""
        if self.end is not None and self._clock() > self.end:
            raise self.error()

    def left(self) -> float | None:
        """Seconds left, at least 0; None without a limit."""
        if self.end is None:
            return None
        return max(0.0, self.end - self._clock())

    def error(self) -> VideoTimeoutError:
        """Make the error to raise.

        A decoder that computes for so long has the video to thank for it; one
        that waits, the disk or the network.
        """
        assert self.seconds is not None
        text = f'reading it takes more than {self.seconds:g} s'
        work = self._work_clock() - self._work_before
        if work < self.seconds / 2:
            return StorageTimeoutError(f'{text}, most of it waiting')
        return VideoTimeoutError(text)


class VideoReader(ABC):
    """Frames of one video, by their position in display order.

    A context manager; every reader decodes in one thread and honours the
    rotation that the file asks for.

    Args:
        path: The file, or the folder of frames.
        time_limit: Seconds that opening and reading may take in all. None:
            no limit.

    Attributes:
        num_frames (int): Number of frames, at least 1.
        fps (float): Average frames per second; 0 where unknown.

    Raises:
        VideoError: If it is not a video, here or when frames are read.
    """

    num_frames: int
    fps: float

    def __init__(self, path: str, time_limit: float | None = None) -> None:
        self.path = path
        self.deadline = Deadline(time_limit)

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
        yield from self._frames(wanted)

    def lost(self, index: int, cause: object = '') -> VideoError:
        """The error for a frame that cannot be decoded."""
        reason = f'frame {index} of {self.num_frames} cannot be decoded'
        return VideoError(f'{reason}: {cause}' if cause else reason)

    def close(self) -> None:  # noqa: B027  (not every reader holds something)
        """Give back the file."""

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
