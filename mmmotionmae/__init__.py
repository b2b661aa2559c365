# Copyright (c) MotionMAE contributors. All rights reserved.
"""MotionMAE for MMAction2.

Importing this package patches what is broken upstream, registers everything in
MMAction2's own registries, and lets MMEngine load checkpoints safely. It costs
nothing until PyTorch, MMEngine or MMAction2 are imported: patches are made
then, and a registry imports what it holds when it is first asked for a name.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import checkpoints, compat
from .utils.imports import after_import, names_from
from .version import __version__

if TYPE_CHECKING:
    from . import datasets, engine, evaluation, models

__all__ = [
    '__version__',
    'checkpoints',
    'compat',
    'datasets',
    'engine',
    'evaluation',
    'models',
]

_ROOMS = ('datasets', 'engine', 'evaluation', 'models')
# The registries of MMAction2 that have classes of ours.
_REGISTRIES = (
    'DATASETS',
    'DATA_SAMPLERS',
    'EVALUATOR',
    'HOOKS',
    'INFERENCERS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'TASK_UTILS',
    'TRANSFORMS',
)

__getattr__ = names_from(__name__, {room: room for room in _ROOMS})


def _register() -> None:
    """Tell registries where our classes are, for when they are asked."""
    module = import_module('mmaction.registry')
    for name in _REGISTRIES:
        registry = getattr(module, name)
        rooms = ('apis',) if name == 'INFERENCERS' else _ROOMS
        registry._locations += [f'{__name__}.{room}' for room in rooms]
        registry._imported = False


compat.apply()
checkpoints.install()
after_import('mmaction.registry', _register)
