# Copyright (c) MotionMAE contributors. All rights reserved.
"""What a test may change for the whole process, and how it is put back."""

import logging
import multiprocessing
import os
import random
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import mmaction.registry
import mmengine.registry
import numpy as np
import torch
from mmengine.registry import Registry, init_default_scope
from mmengine.utils import ManagerMixin

from mmmotionmae.checkpoints import trust_checkpoints

SIGNALS = [
    getattr(signal, name)
    for name in 'SIGINT SIGTERM SIGHUP SIGUSR1 SIGUSR2 SIGCHLD'.split()
]


def seed_everything() -> None:
    """Seed Python, NumPy and PyTorch with 0."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def forget_managers() -> None:
    """Drop MMEngine's loggers, message hubs, scopes and visualizers.

    As in a process that has just started. A logger writes to the stream that
    was ``sys.stderr`` when it was made, in a test one that is closed later.
    """
    for manager in _managers(ManagerMixin):
        manager._instance_dict.clear()
    init_default_scope('mmaction')


@contextmanager
def isolated() -> Iterator[None]:
    """Start with defaults and fixed seeds; put everything back.

    Defaults are those of MMEngine, and no handler of SIGTERM and SIGUSR1: the
    processes that a test forks inherit it, and would not end.

    Put back are: MMEngine's managers, registered modules, loggers, the
    environment, the working directory, ``sys.argv`` and ``sys.path``, signal
    handlers, how processes start, settings of PyTorch and OpenCV, filters of
    warnings, and whether checkpoints are trusted.
    """
    before = _settings()
    managers = {m: dict(m._instance_dict) for m in _managers(ManagerMixin)}
    modules = {r: dict(r._module_dict) for r in _registries()}
    forget_managers()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    seed_everything()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        forget_managers()
        for manager, instances in managers.items():
            manager._instance_dict.update(instances)
        for registry, registered in modules.items():
            registry._module_dict.clear()
            registry._module_dict.update(registered)
        _restore(before)


def _managers(cls: Any) -> Iterator[Any]:
    for child in cls.__subclasses__():
        yield child
        yield from _managers(child)


def _registries() -> list[Registry]:
    return [
        value
        for module in (mmengine.registry, mmaction.registry)
        for value in vars(module).values()
        if isinstance(value, Registry)
    ]


def _loggers() -> dict[str, tuple[Any, ...]]:
    loggers = {
        name: logger
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    return {
        name: (x.level, x.propagate, x.disabled, list(x.handlers))
        for name, x in loggers.items()
    }


def _settings() -> dict[str, Any]:
    return dict(
        loggers=_loggers(),
        root=(logging.root.level, list(logging.root.handlers)),
        environ=dict(os.environ),
        folder=os.getcwd(),
        argv=list(sys.argv),
        path=list(sys.path),
        signals={s: signal.getsignal(s) for s in SIGNALS},
        start=multiprocessing.get_start_method(allow_none=True),
        threads=torch.get_num_threads(),
        opencv_threads=cv2.getNumThreads(),
        dtype=torch.get_default_dtype(),
        grad=torch.is_grad_enabled(),
        deterministic=(
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
    )


def _restore(before: dict[str, Any]) -> None:
    if logging.root.level != before['root'][0]:
        logging.root.setLevel(before['root'][0])
    logging.root.handlers[:] = before['root'][1]
    for name, old in before['loggers'].items():
        logger = logging.getLogger(name)
        if logger.level != old[0]:  # it empties the caches of all loggers
            logger.setLevel(old[0])
        logger.propagate, logger.disabled = old[1:3]
        logger.handlers[:] = old[3]
    for name in os.environ.keys() - before['environ'].keys():
        del os.environ[name]
    os.environ.update(before['environ'])
    os.chdir(before['folder'])
    sys.argv[:] = before['argv']
    sys.path[:] = before['path']
    for number, handler in before['signals'].items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    if multiprocessing.get_start_method(allow_none=True) != before['start']:
        multiprocessing.set_start_method(before['start'], force=True)
    # To set what is set already costs PyTorch a new pool of threads.
    if torch.get_num_threads() != before['threads']:
        torch.set_num_threads(before['threads'])
    if cv2.getNumThreads() != before['opencv_threads']:
        cv2.setNumThreads(before['opencv_threads'])
    torch.set_default_dtype(before['dtype'])
    torch.set_grad_enabled(before['grad'])
    enabled, warn_only = before['deterministic']
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    trust_checkpoints(False)
