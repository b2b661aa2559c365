# Copyright (c) MotionMAE contributors. All rights reserved.
"""Patches of MMEngine's saving: plain checkpoints, complete files."""

import os
from collections import OrderedDict
from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from ..utils.files import complete_file
from ..utils.patching import once, replace, warn


def to_plain(value: Any, path: str = 'checkpoint') -> Any:
    """Rebuild ``value`` from what ``torch.load(weights_only=True)`` accepts.

    NumPy scalars become Python numbers, NumPy arrays tensors (or lists of
    strings), ``HistoryBuffer`` a dict of tensors, paths strings; any other
    object its ``repr``, with a warning that names it.

    Args:
        value: What is to be saved.
        path: Where ``value`` sits, for the warning.

    Returns:
        The same content in dicts, lists, tuples, tensors and plain scalars.
    """
    if value is None or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic):  # np.float64 is a float: ask first
        return value.item()
    scalars: tuple[type[Any], ...] = (bool, int, float, complex, str, bytes)
    for plain in scalars:
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, (torch.dtype, torch.device, torch.Size)):
        return value
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return dict(
            type='HistoryBuffer',
            log_history=torch.from_numpy(np.asarray(log)),
            count_history=torch.from_numpy(np.asarray(count)),
            max_length=value.max_length,
        )
    if isinstance(value, np.ndarray):
        if value.dtype.kind in 'biuf' and value.dtype.itemsize <= 8:
            # A copy: torch takes neither reversed nor byte-swapped arrays.
            native = value.dtype.newbyteorder('=')
            return torch.from_numpy(np.array(value, native, order='C'))
        return to_plain(value.tolist(), path)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        items = (
            (to_plain(k, path), to_plain(v, f'{path}.{k}'))
            for k, v in value.items()
        )
        if not isinstance(value, OrderedDict):
            return dict(items)
        plain_dict = OrderedDict(items)
        if hasattr(value, '_metadata'):  # versions inside a state dict
            vars(plain_dict)['_metadata'] = value._metadata
        return plain_dict
    if isinstance(value, (list, tuple, set, frozenset)):
        items = (to_plain(v, f'{path}[{i}]') for i, v in enumerate(value))
        return tuple(items) if isinstance(value, tuple) else list(items)
    warn(
        f'{path} is a {type(value).__name__}, which a safe checkpoint '
        'cannot hold; its text is saved instead.'
    )
    return repr(value)


def _from_plain(value: Any) -> Any:
    if isinstance(value, Mapping) and value.get('type') == 'HistoryBuffer':
        return HistoryBuffer(
            value['log_history'].cpu().numpy(),
            value['count_history'].cpu().numpy(),
            value['max_length'],
        )
    return value


@once
def save_plain_checkpoints() -> None:
    """MMEngine 0.10 saves objects that safe loading refuses.

    Every checkpoint holds the ``HistoryBuffer`` objects of the message hub,
    so that resume and test fail on torch >= 2.6 (mmengine #1655). Everything
    is saved as plain types. DeepSpeed's own files: see ``mend_deepspeed``.

    Remove when: MMEngine's own checkpoints load with ``weights_only=True``.
    """
    from mmengine.runner.checkpoint import save_checkpoint as save

    @wraps(save)
    def save_checkpoint(checkpoint: dict, *args: Any, **kwargs: Any) -> None:
        save(to_plain(checkpoint), *args, **kwargs)

    owners = (
        'mmengine._strategy.colossalai',
        'mmengine._strategy.deepspeed',
        'mmengine.runner',
        'mmengine.runner.checkpoint',
        'mmengine.runner.runner',
    )
    replace('save_checkpoint', save_checkpoint, owners)


@once
def read_plain_histories() -> None:
    """The message hub does not read what is saved instead of its objects.

    Here it reads both forms.

    Remove when: :func:`save_plain_checkpoints` goes.
    """
    load_state_dict = MessageHub.load_state_dict

    @wraps(load_state_dict)
    def load_plain(self: MessageHub, state_dict: Any) -> None:
        if isinstance(state_dict, dict) and 'log_scalars' in state_dict:
            scalars = state_dict['log_scalars']
            state_dict = dict(
                state_dict,
                log_scalars={k: _from_plain(v) for k, v in scalars.items()},
            )
        load_state_dict(self, state_dict)

    MessageHub.load_state_dict = load_plain


@once
def write_files_atomically() -> None:
    """MMEngine writes files in place.

    A run that is killed while it writes leaves a truncated checkpoint, on
    which ``--resume`` then fails; and after a test all processes write the
    metrics to the same file at once, which mixes them up. What is written
    goes to a temporary name first.

    Remove when: ``LocalBackend`` renames.
    """
    from mmengine.fileio import LocalBackend

    def atomically(put: Any) -> Any:
        @wraps(put)
        def put_atomically(
            self: LocalBackend,
            obj: Any,
            filepath: str | Path,
            *args: Any,
            **kwargs: Any,
        ) -> None:
            path, suffix = Path(filepath), f'.{os.getpid()}.tmp'
            with complete_file(path, suffix) as temporary:
                put(self, obj, str(temporary), *args, **kwargs)

        return put_atomically

    LocalBackend.put = atomically(LocalBackend.put)
    LocalBackend.put_text = atomically(LocalBackend.put_text)
