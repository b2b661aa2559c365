# Copyright (c) MotionMAE contributors. All rights reserved.
"""Patches of other packages: what they have in common."""

import logging
from collections.abc import Callable
from functools import wraps

from mmengine.logging import print_log


def once(function: Callable) -> Callable:
    """Run ``function`` on the first call only."""
    done = False

    @wraps(function)
    def wrapper() -> None:
        nonlocal done
        if not done:
            done = True
            function()

    return wrapper


def warn(message: str) -> None:
    """Log a warning."""
    print_log(message, logger='current', level=logging.WARNING)
