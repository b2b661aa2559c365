# Copyright (c) MotionMAE contributors. All rights reserved.
"""Import official code from clones, without what else it imports."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from mmmotionmae.apis import UsageError

# By flag: the file that is looked for, and where to get it.
CLONES = {
    'dino': (
        'eval_video_segmentation.py',
        'https://github.com/facebookresearch/dino',
    ),
    'cropmae': (
        'downstreams/propagation/src/test.py',
        'https://github.com/alexandre-eymael/CropMAE',
    ),
    'davis2017-evaluation': (
        'davis2017/evaluation.py',
        'https://github.com/davisvideochallenge/davis2017-evaluation',
    ),
}


def check_clone(flag: str, folder: str) -> None:
    """Check that a folder has the official code.

    Args:
        flag: One of :data:`CLONES`.
        folder: What was given for it.

    Raises:
        UsageError: If it has not.
    """
    name, address = CLONES[flag]
    file = Path(folder) / name
    if not file.is_file():
        raise UsageError(
            f'There is no file {str(file)!r}: --{flag} takes a clone of '
            f'{address}.'
        )


def stand_in(name: str, **contents: Any) -> dict[str, ModuleType]:
    """A module to be imported instead of one that may be missing."""
    modules = {}
    for end in range(1, name.count('.') + 2):
        part = '.'.join(name.split('.')[:end])
        modules[part] = ModuleType(part)
        # Others look for packages with `find_spec`, which wants one.
        modules[part].__spec__ = ModuleSpec(part, None)
    for part, module in modules.items():
        parent, _, own = part.rpartition('.')
        if parent:
            setattr(modules[parent], own, module)
    vars(modules[name]).update(contents)
    return modules


@contextmanager
def importing_from(
    folder: str, names: Sequence[str], stand_ins: Mapping[str, ModuleType]
) -> Iterator[None]:
    """Import modules of a folder; afterwards it is as if none had been.

    Args:
        folder: Where they are.
        names: Theirs. Others may have the same, such as ``utils``.
        stand_ins: What is imported instead of packages.
    """
    own = {*names, *(name.split('.')[0] for name in stand_ins)}

    def take_out() -> dict[str, ModuleType]:
        """Remove all modules of these names, and return them."""
        found = [name for name in sys.modules if name.split('.')[0] in own]
        return {name: sys.modules.pop(name) for name in found}

    before = take_out()
    sys.modules.update(stand_ins)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        take_out()
        sys.modules.update(before)


@contextmanager
def as_if_cuda(device: torch.device) -> Iterator[None]:
    """On a CPU `Tensor.cuda` gives the tensor itself."""
    with ExitStack() as stack:
        if device.type == 'cpu':

            def cuda(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
                return tensor

            stack.enter_context(mock.patch.object(Tensor, 'cuda', cuda))
        yield
