# Copyright (c) MotionMAE contributors. All rights reserved.
"""Trust in files, and ``torch.load`` that gives data and runs no code.

Whoever loads a checkpoint, it is ``torch.load`` that reads it. It is closed
here, once, for all of them; see :func:`close_torch_load`.
"""

import os
import pathlib
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from typing import Any

import torch
from torch.serialization import safe_globals

from ..utils.imports import once

# What official VideoMAE and MAE files hold beside tensors: the arguments of
# the run. To rebuild these sets attributes, or joins a path, and no more.
HARMLESS: list[Any] = [
    Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
]

# Likewise what DeepSpeed saves of its optimisers, where it is imported.
HARMLESS_OF_DEEPSPEED = (
    ('deepspeed.runtime.fp16.loss_scaler', 'LossScaler'),
    ('deepspeed.runtime.fp16.loss_scaler', 'DynamicLossScaler'),
    ('deepspeed.runtime.zero.config', 'ZeroStageEnum'),
    ('deepspeed.utils.tensor_fragment', 'fragment_address'),
)

# For messages.
HOW_TO_TRUST = (
    'If you trust its source, pass --trust-checkpoint (in Python: '
    'mmmotionmae.checkpoints.trust_checkpoints()).'
)

_trust = False
_loading: ContextVar[bool] = ContextVar('loading', default=False)


def trust_checkpoints(trust: bool = True) -> None:
    """Let files run code when they are loaded: checkpoints, pickled lists.

    Args:
        trust: Whether every file loaded from now on comes from a source that
            may run code on this machine. At the start nothing is trusted.
    """
    global _trust
    _trust = trust


def is_trusted() -> bool:
    """Tell whether files may run code."""
    return _trust


def forbidden_by_shell() -> str:
    """Say, for a message, that the shell lets PyTorch trust no file."""
    name = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
    forced = os.environ.get(name, '').lower() in ('1', 'y', 'yes', 'true')
    return f'The shell forbids it: {name} is set.' if forced else ''


@contextmanager
def loading_checkpoint() -> Iterator[None]:
    """Let no ``torch.load`` inside run code, whoever calls it, and how."""
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)


@once
def close_torch_load() -> None:
    """MMEngine leaves it to torch, and to the shell, what loading may do.

    DeepSpeed and files from the web are loaded with ``weights_only=False``;
    ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD``, which many shells got for MMEngine's
    sake, makes every call unsafe that does not ask for safety. Here, unless
    :func:`trust_checkpoints` was called, all that happens while a checkpoint
    is loaded is safe, and so is every other call that leaves it open; the
    variable has no say. A call of yours with ``weights_only=False`` stays
    what it is.

    Remove when: MMEngine and its strategies pass ``weights_only=True``.
    """
    load = torch.load

    @wraps(load)
    def load_data(
        f: Any, map_location: Any = None, pickle_module: Any = None, **kw: Any
    ) -> Any:
        loading, is_open = _loading.get(), kw.get('weights_only') is None
        if _trust:
            if loading and is_open:
                kw['weights_only'] = False
        elif loading or (is_open and pickle_module is None):
            kw['weights_only'] = True
        with safe_globals(_harmless()) if loading else nullcontext():
            return load(f, map_location, pickle_module, **kw)

    for owner in (torch, torch.serialization):
        vars(owner)['load'] = load_data


def _harmless() -> list[Any]:
    modules = [(sys.modules.get(m), name) for m, name in HARMLESS_OF_DEEPSPEED]
    found = [getattr(module, name, None) for module, name in modules]
    return [*HARMLESS, *(x for x in found if x is not None)]
