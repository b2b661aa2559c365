# Copyright (c) MotionMAE contributors. All rights reserved.
"""Names of arguments, and the one that was meant."""

import difflib
import inspect
from collections.abc import Iterable
from typing import Any


def argument_names(target: Any) -> list[str]:
    """Names of the arguments that a class, or function, takes.

    Args:
        target: A class: with the arguments of those that it is derived from,
            as long as each hands on ``**kwargs``. A function: its own.
    """
    names: dict[str, None] = {}
    if not inspect.isclass(target):
        return [*inspect.signature(target).parameters]
    for base in target.__mro__:
        init = base.__dict__.get('__init__')
        if init is None:
            continue
        parameters = [*inspect.signature(init).parameters.values()][1:]
        fixed = [
            p
            for p in parameters
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        names.update(dict.fromkeys(p.name for p in fixed))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return [*names]


def suggest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """A half sentence with the nearest of some names.

    Args:
        name: That was given.
        names: That there are.
        cutoff: How like one must be to be near, from 0 to 1.

    Returns:
        Such as ``'; did you mean patch_size?'``, or ``''`` if none is near.
    """
    lower = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), lower, 1, cutoff)
    return f'; did you mean {lower[near[0]]}?' if near else ''


def unknown_argument(target: Any, name: str) -> str:
    """The message about an argument that a class, or function, has not."""
    names = argument_names(target)
    near = suggest(name, names)
    own = f'. It has {", ".join(names)}.'
    return f'{target.__name__} has no argument {name!r}{near or own}'
