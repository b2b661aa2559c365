# Copyright (c) MotionMAE contributors. All rights reserved.
"""A clock for tests of what measures time."""

from collections.abc import Callable
from typing import Any


class FakeClock:
    """Shows the seconds that it was moved on by; call it to look.

    What a test makes slow moves it on, all else takes no time.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Move it on."""
        self.seconds += seconds

    def slow(self, function: Callable, seconds: float) -> Callable:
        """A function that does the same, and takes so many seconds."""

        def slow(*args: Any, **kwargs: Any) -> Any:
            self.advance(seconds)
            return function(*args, **kwargs)

        return slow
