# Copyright (c) MotionMAE contributors. All rights reserved.
"""Patches of other packages: what they have in common."""

import logging
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from .imports import once

__all__ = ['once', 'replace', 'warn']


def replace(name: str, new: Any, owners: Iterable[str]) -> None:
    """Replace a function in all modules that have copied it so far.

    Who copies it later must find the new one in the module that defines it.

    Args:
        name: Of the function.
        new: What takes its place.
        owners: Modules; those that are not imported are passed over, and so
            are those that have no such name.
    """
    for owner in owners:
        module = sys.modules.get(owner)
        if hasattr(module, name):
            setattr(module, name, new)


def warn(message: str) -> None:
    """Log a warning."""
    print_log = import_module('mmengine.logging').print_log
    print_log(message, logger='current', level=logging.WARNING)
