# Copyright (c) MotionMAE contributors. All rights reserved.
"""MotionMAE for MMAction2.

Importing this package mends what is broken upstream and registers
everything in MMAction2's own registries.
"""

from . import compat

compat.apply()

# These import `mmaction.models`, which works only from here on.
from . import datasets, engine, evaluation, models  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = [
    '__version__',
    'compat',
    'datasets',
    'engine',
    'evaluation',
    'models',
]
