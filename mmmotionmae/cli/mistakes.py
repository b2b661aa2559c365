# Copyright (c) MotionMAE contributors. All rights reserved.
"""Errors of configs and disks, in one line.

Most arguments in a config go to code of others, whose errors come with a
traceback and without the place in the config.
"""

import errno
import re
from types import FrameType
from typing import Any

from mmengine.registry import build_functions

from ..utils.arguments import suggest, unknown_argument

_FULL = (errno.ENOSPC, errno.EDQUOT)
# What is in the way of a file, or of reading it.
_IN_THE_WAY = (
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
# PyTorch's, and that of safetensors, when they cannot write a file.
_NOT_WRITTEN = ('PytorchStreamWriter failed writing', '(os error 28)')


def explain_mistake(error: Exception) -> str | None:
    """Say in one line what was wrong with a config or a disk.

    Args:
        error: Any, with its traceback.

    Returns:
        The line; None if it is another error.
    """
    if isinstance(error, OSError):
        return _explain_os_error(error)
    if any(text in str(error) for text in _NOT_WRITTEN):
        return _explain_full_disk('a file')
    frames = _frames(error)
    built = next((f for f in reversed(frames) if _builds(f)), None)
    if built is None:
        return None
    target = built.f_locals.get('obj_cls')
    if isinstance(error, KeyError) and target is None and frames[-1] is built:
        name, registry = built.f_locals['obj_type'], built.f_locals['registry']
        near = suggest(name, _registered(registry))
        return f'There is no {registry.name} {name!r}{near or "."}'
    if target is None:
        return None
    text = ' '.join(str(error).split())
    unknown = re.search(r"unexpected keyword argument '(\w+)'", text)
    if unknown and unknown[1] in built.f_locals['args']:
        return unknown_argument(target, unknown[1])
    ours = str(frames[-1].f_globals.get('__name__')).startswith('mmmotionmae')
    lacks = frames[-1] is built and 'missing' in text
    if isinstance(error, (TypeError, ValueError)) and (ours or lacks):
        return f'{target.__name__}: {text}'
    return None


def _explain_os_error(error: OSError) -> str | None:
    name = error.filename or 'a file'
    if error.errno in _FULL:
        return _explain_full_disk(name)
    if error.errno in _IN_THE_WAY:
        return f'{error.strerror}: {str(name)!r}.'
    return None


def _explain_full_disk(name: Any) -> str:
    return (
        f'The disk is full: {name} could not be written. What was written '
        'before is whole. Make room and start it again (a training: with '
        '--resume).'
    )


def _frames(error: Exception) -> list[FrameType]:
    found, traceback = [], error.__traceback__
    while traceback is not None:
        found.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return found


def _builds(frame: FrameType) -> bool:
    return frame.f_code is build_functions.build_from_cfg.__code__


def _registered(registry: Any) -> list[str]:
    """All that is registered, also in parents."""
    names: list[str] = []
    while registry is not None:
        registry.import_from_location()
        names += registry.module_dict
        registry = registry.parent
    return names
