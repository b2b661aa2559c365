# Copyright (c) MotionMAE contributors. All rights reserved.
"""MotionMAE for MMAction2.

Importing this package patches what is broken upstream, registers everything in
MMAction2's own registries, and lets MMEngine load checkpoints safely.
"""

from . import compat

compat.apply()

# These import `mmaction.models`, which works only from here on.
from . import (  # noqa: E402
    checkpoints,
    datasets,
    engine,
    evaluation,
    models,
)
from .version import __version__  # noqa: E402

checkpoints.install()

__all__ = [
    '__version__',
    'checkpoints',
    'compat',
    'datasets',
    'engine',
    'evaluation',
    'models',
]
