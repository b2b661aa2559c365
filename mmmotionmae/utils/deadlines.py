# Copyright (c) MotionMAE contributors. All rights reserved.
import time
from collections.abc import Callable

from .errors import StorageTimeoutError, VideoTimeoutError


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
