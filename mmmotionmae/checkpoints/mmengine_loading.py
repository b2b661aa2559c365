# Copyright (c) MotionMAE contributors. All rights reserved.
"""MMEngine's loading of checkpoint files, made safe and strict."""

import os
import os.path as osp
import pathlib
import pickle
import re
import struct
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.serialization import safe_globals

from ..utils.errors import CheckpointError
from ..utils.patching import once
from .files import read_safetensors
from .strict import (
    check_finite,
    concerns,
    load_content,
    needed_parts,
)

# What official VideoMAE and MAE files hold beside tensors: the arguments of
# the run. To rebuild these sets attributes, or joins a path, and no more.
HARMLESS: list[Any] = [
    Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
]

_trust = False


def trust_checkpoints(trust: bool = True) -> None:
    """Let checkpoint files run code when they are loaded.

    Args:
        trust: Whether every file loaded from now on comes from a source that
            may run code on this machine. At the start nothing is trusted.
    """
    global _trust
    _trust = trust


def is_trusted() -> bool:
    """Tell whether checkpoint files may run code."""
    return _trust


@contextmanager
def _torch_load_policy(trust: bool) -> Iterator[None]:
    """Make every ``torch.load`` inside safe, or, if trusted, unsafe."""
    safe = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
    unsafe = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
    before = {name: os.environ.pop(name, None) for name in (safe, unsafe)}
    os.environ[unsafe if trust else safe] = '1'
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@once
def load_checkpoints_safely() -> None:
    """MMEngine leaves it to torch's version whether loading runs code.

    Downloaded files and torch < 2.6 unpickle anything; torch >= 2.6 fails
    with a message that offers to switch the protection off. Here every file,
    from whatever source, is loaded with ``weights_only=True``; one that needs
    more is refused, unless :func:`trust_checkpoints` was called. Beyond
    MMEngine, .safetensors files can be loaded.

    Remove when: MMEngine passes ``weights_only=True`` everywhere.

    Raises:
        CheckpointError: Not here, but where a file is loaded that needs more,
            is broken, or is a folder.
    """
    from mmengine.runner import CheckpointLoader

    load = CheckpointLoader.load_checkpoint.__func__

    def load_checkpoint(
        cls: type,
        filename: str,
        map_location: Any = None,
        logger: Any = 'current',
    ) -> Any:
        if osp.isdir(filename):
            raise CheckpointError(
                f'{filename} is a folder; a checkpoint file is needed '
                '(tools/convert/convert_checkpoint.py makes one of a folder '
                'of Hugging Face).'
            )
        try:
            if str(filename).endswith('.safetensors'):
                content = _load_safetensors(str(filename), map_location)
            else:
                with _torch_load_policy(_trust), safe_globals(HARMLESS):
                    content = load(cls, filename, map_location, logger)
        except CheckpointError:
            raise
        except Exception as error:
            message = _explain(str(filename), error)
            if message is None:
                raise
            raise CheckpointError(message) from error
        _remember(content, str(filename))
        return content

    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)


def _explain(filename: str, error: Exception) -> str | None:
    """Explain a failed loading; None if ``error`` does so itself."""
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return None
    text, path = str(error), osp.expanduser(filename)
    # A text file, too, is refused for the objects that it seems to name.
    from_torch, local = 'GLOBAL' in text, osp.isfile(path)
    if local:
        with open(path, 'rb') as file:
            from_torch = file.read(4) in (b'PK\x03\x04', b'\x80\x02\x8a\n')
    refused = isinstance(error, pickle.UnpicklingError)
    if from_torch and refused and not _trust:
        name = re.search(r'GLOBAL (\S+)', text)
        objects = f'Python objects ({name[1]})' if name else 'Python objects'
        return (
            f'{filename} holds {objects} that could run code when '
            'loaded, so it was not loaded. If you trust its source, pass '
            '--trust-checkpoint (in Python: '
            'mmmotionmae.checkpoints.trust_checkpoints()).'
        )
    damaged = (
        refused
        or isinstance(error, (EOFError, IndexError, struct.error))
        or any(
            word in text
            for word in ('PytorchStreamReader', 'archive', 'corrupt')
        )
    )
    if damaged or (local and (not from_torch or isinstance(error, OSError))):
        return (
            f'{filename} is not a readable PyTorch checkpoint: it is '
            'truncated, or a file of another kind.'
        )
    return None


def _load_safetensors(filename: str, map_location: Any) -> dict[str, Any]:
    """Such a file as MMEngine knows checkpoints."""
    if not osp.isfile(filename):
        raise FileNotFoundError(f'{filename} can not be found.')
    tensors, metadata = read_safetensors(filename)
    if isinstance(map_location, (str, torch.device)):
        tensors = {n: t.to(map_location) for n, t in tensors.items()}
    return dict(state_dict=OrderedDict(tensors), meta=metadata.get('meta', {}))


@once
def load_weights_strictly() -> None:
    """MMEngine passes over tensors that do not fit.

    A file of another format, or of another model, is loaded in part or not
    at all; one warning among many says so, and the model is trained from
    noise. Models with a video ViT, and label propagation, are loaded with
    :func:`load_strictly` instead, whatever the way: ``load_from``,
    ``init_cfg``, ``--resume``, ``init_recognizer``, an inferencer.

    Remove when: MMEngine refuses what does not fit.
    """
    import mmengine.infer.infer
    import mmengine.runner._flexible_runner
    import mmengine.runner.checkpoint
    import mmengine.runner.runner
    from mmengine.model.weight_init import PretrainedInit

    load_to_model = mmengine.runner.checkpoint._load_checkpoint_to_model
    init = PretrainedInit.__call__

    @wraps(load_to_model)
    def load_strictly_to_model(
        model: nn.Module,
        checkpoint: dict,
        strict: bool = False,
        logger: Any = None,
        revise_keys: list = [(r'^module\.', '')],
    ) -> dict:
        if strict or not concerns(model):
            state = checkpoint.get('state_dict', checkpoint)
            # Infinity may be what a buffer, such as a mask, is for.
            parameters = {name for name, _ in model.named_parameters()}
            others = state.keys() - parameters
            check_finite(state, _source_of(checkpoint), others)
            return load_to_model(
                model, checkpoint, strict, logger, revise_keys
            )
        load_content(
            model, checkpoint, _source_of(checkpoint), revise_keys=revise_keys
        )
        return checkpoint

    @wraps(init)
    def init_strictly(self: PretrainedInit, module: nn.Module) -> None:
        if not concerns(module):
            init(self, module)
            return
        load_content(
            module,
            mmengine.runner.CheckpointLoader.load_checkpoint(
                self.checkpoint, self.map_location
            ),
            self.checkpoint,
            needs='encoder',
            prefix=self.prefix or '',
        )
        if hasattr(module, '_params_init_info'):
            mmengine.model.update_init_info(module, self._get_init_info())

    for owner in (
        mmengine.infer.infer,
        mmengine.runner.checkpoint,
        mmengine.runner.runner,
    ):
        owner._load_checkpoint_to_model = load_strictly_to_model
    PretrainedInit.__call__ = init_strictly
    for runner in (
        mmengine.runner.runner.Runner,
        mmengine.runner._flexible_runner.FlexibleRunner,
    ):
        runner.load_or_resume = _name_needed_parts(runner.load_or_resume)


def _name_needed_parts(load_or_resume: Any) -> Any:
    """A training that is not resumed needs no more than the encoder."""
    from mmengine.runner import BaseLoop

    @wraps(load_or_resume)
    def load(self: Any) -> None:
        begins = isinstance(self._train_loop, BaseLoop) and not self._resume
        with needed_parts('encoder' if begins else 'all'):
            load_or_resume(self)

    return load


# Identity and file of the content that was loaded last: MMEngine hands on the
# content alone, and an error should name the file.
_last = (0, '')


def _remember(content: Any, filename: str) -> None:
    global _last
    _last = (id(content), filename)


def _source_of(content: Any) -> str:
    return _last[1] if _last[0] == id(content) else 'The checkpoint'
