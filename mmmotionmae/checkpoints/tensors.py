# Copyright (c) MotionMAE contributors. All rights reserved.
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..utils.errors import CheckpointError

# Where the tensors lie in the files of MMEngine, MAE and VideoMAE, DeepSpeed
# and PySlowFast.
WRAPPERS = ('state_dict', 'model', 'module', 'model_state')


def unwrap_tensors(
    content: Any, source: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Find the tensors in what a file held.

    Returns:
        The tensors, without the ``module.`` of data-parallel training, and
        what lay beside them.

    Raises:
        CheckpointError: If there are none.
    """
    settings: dict[str, Any] = {}
    if isinstance(content, Mapping):
        for name in WRAPPERS:
            inner = content.get(name)
            if isinstance(inner, Mapping) and _tensors_of(inner):
                settings = _arguments(content.get('args'))
                if isinstance(content.get('meta'), Mapping):
                    settings['meta'] = dict(content['meta'])
                content = inner
                break
    tensors = _tensors_of(content) if isinstance(content, Mapping) else {}
    if not tensors:
        raise CheckpointError(f'{source} holds no weights.')
    if all(name.startswith('module.') for name in tensors):
        tensors = {n.removeprefix('module.'): t for n, t in tensors.items()}
    return tensors, settings


def _tensors_of(mapping: Mapping) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in mapping.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def _arguments(args: Any) -> dict[str, Any]:
    """Those of the run: official files hold an ``argparse.Namespace``."""
    if isinstance(args, Namespace):
        args = vars(args)
    return dict(args) if isinstance(args, Mapping) else {}
