# Copyright (c) MotionMAE contributors. All rights reserved.
"""MMEngine's loading of checkpoint files, made safe and strict."""

import os.path as osp
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from ..utils.errors import CheckpointError
from ..utils.imports import lazy_module
from ..utils.patching import once, replace
from ..utils.sharded_folders import is_sharded
from .shipped import locate_checkpoint
from .trust import (
    HOW_TO_TRUST,
    forbidden_by_shell,
    is_trusted,
    loading_checkpoint,
)

# They import what may be waiting for what is patched here.
if TYPE_CHECKING:
    from ..compat import deepspeed_weights as _deepspeed
    from . import files
    from . import sharded as _sharded
    from . import strict as _strict
else:
    _deepspeed = lazy_module('mmmotionmae.compat.deepspeed_weights')
    files = lazy_module(f'{__package__}.files')
    _sharded = lazy_module(f'{__package__}.sharded')
    _strict = lazy_module(f'{__package__}.strict')


@once
def load_from_web_safely() -> None:
    """Files from the web unpickle anything.

    Here they are loaded with :func:`loading_checkpoint`.

    Remove when: MMEngine passes ``weights_only=True`` everywhere.
    """
    from mmengine.utils.dl_utils.hub import load_url

    @wraps(load_url)
    def load_data_from_url(*args: Any, **kwargs: Any) -> Any:
        with loading_checkpoint():
            return load_url(*args, **kwargs)

    owners = (
        'mmengine.runner.checkpoint',
        'mmengine.utils.dl_utils',
        'mmengine.utils.dl_utils.hub',
    )
    replace('load_url', load_data_from_url, owners)


@once
def load_checkpoints_safely() -> None:
    """MMEngine leaves it to torch's version whether loading runs code.

    With torch >= 2.6 files fail with a message that offers to switch the
    protection off. Here every file,
    from whatever source, is loaded with :func:`loading_checkpoint`; one that
    needs more is refused, unless :func:`trust_checkpoints` was called. Beyond
    MMEngine, .safetensors files can be loaded, folders of DeepSpeed, and
    files that the package ships, as ``mmmotionmae://NAME``.

    Remove when: MMEngine passes ``weights_only=True`` everywhere.

    Raises:
        CheckpointError: Not here, but where a file is loaded that needs more,
            is broken, or is a folder.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    load = CheckpointLoader.load_checkpoint.__func__

    def load_checkpoint(
        cls: type,
        filename: str,
        map_location: Any = None,
        logger: Any = 'current',
    ) -> Any:
        filename = locate_checkpoint(str(filename))
        if is_sharded(Path(filename)):
            content = _sharded.read_sharded(Path(filename))
            _remember(content, filename)
            return content
        folder = osp.isdir(filename)
        if folder and not _deepspeed.holds_checkpoint(filename):
            raise CheckpointError(
                f'{filename} is a folder; a checkpoint file is needed '
                '(tools/convert/convert_checkpoint.py makes one of a folder '
                'of Hugging Face).'
            )
        try:
            if filename.endswith('.safetensors'):
                content = _load_safetensors(filename, map_location)
            elif folder:
                with loading_checkpoint():
                    content = _deepspeed.read_folder(filename)
            else:
                with loading_checkpoint():
                    content = load(cls, filename, map_location, logger)
        except CheckpointError:
            raise
        except Exception as error:
            message = explain_failure(filename, error)
            if message is None:
                raise
            raise CheckpointError(message) from error
        _remember(content, filename)
        return content

    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)


def explain_failure(filename: str, error: Exception) -> str | None:
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
    forced = forbidden_by_shell()
    if from_torch and refused and (forced or not is_trusted()):
        name = re.search(r'GLOBAL (\S+)', text)
        objects = f'Python objects ({name[1]})' if name else 'Python objects'
        return (
            f'{filename} holds {objects} that could run code when loaded, so '
            f'it was not loaded. {forced if is_trusted() else HOW_TO_TRUST}'
        )
    if 'TorchScript' in text:
        return (
            f'{filename} is a TorchScript program, not a checkpoint of '
            'weights, and a program is not loaded.'
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
    tensors, metadata = files.read_safetensors(filename)
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
    from mmengine.runner.checkpoint import (
        _load_checkpoint_to_model as load_to_model,
    )

    @wraps(load_to_model)
    def load_strictly_to_model(
        model: nn.Module,
        checkpoint: dict,
        strict: bool = False,
        logger: Any = None,
        revise_keys: list = [(r'^module\.', '')],
    ) -> dict:
        content, source = _recall(checkpoint)
        if strict or not _strict.concerns(model):
            state = checkpoint.get('state_dict', checkpoint)
            # Infinity may be what a buffer, such as a mask, is for.
            parameters = {name for name, _ in model.named_parameters()}
            others = state.keys() - parameters
            _strict.check_finite(state, source, others)
            return load_to_model(
                model, checkpoint, strict, logger, revise_keys
            )
        _strict.load_content(model, content, source, revise_keys=revise_keys)
        return checkpoint

    owners = (
        'mmengine.infer.infer',
        'mmengine.runner.checkpoint',
        'mmengine.runner.runner',
    )
    replace('_load_checkpoint_to_model', load_strictly_to_model, owners)


@once
def initialise_strictly() -> None:
    """``init_cfg``, too, passes over tensors that do not fit.

    See :func:`load_weights_strictly`. There the encoder is needed.

    Remove when: MMEngine refuses what does not fit.
    """
    from mmengine.model.weight_init import PretrainedInit

    init = PretrainedInit.__call__

    @wraps(init)
    def init_strictly(self: PretrainedInit, module: nn.Module) -> None:
        # What imports this module may be waiting for it.
        import mmengine.runner

        if not _strict.concerns(module):
            init(self, module)
            return
        _strict.load_content(
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

    PretrainedInit.__call__ = init_strictly


@once
def name_needed_parts() -> None:
    """A training that is not resumed needs no more than the encoder.

    See :func:`load_weights_strictly`.

    Remove when: MMEngine refuses what does not fit.
    """
    from mmengine.runner import BaseLoop, FlexibleRunner, Runner

    def naming_parts(load_or_resume: Any) -> Any:
        @wraps(load_or_resume)
        def load(self: Any) -> None:
            begins = isinstance(self._train_loop, BaseLoop)
            begins = begins and not self._resume
            with _strict.needed_parts('encoder' if begins else 'all'):
                load_or_resume(self)

        return load

    for cls in (Runner, FlexibleRunner):
        cls.load_or_resume = naming_parts(cls.load_or_resume)


class _Content(NamedTuple):
    """The content of a file that was loaded last.

    MMEngine hands on the content, or the weights in it alone, and an error
    should name the file.
    """

    whole: int  # identity of the content, and of the weights in it
    weights: int
    source: str
    meta: Any


_NOTHING = _Content(0, 0, 'The checkpoint', None)
_last = _NOTHING


def _remember(content: Any, source: str) -> None:
    global _last
    inner = content if isinstance(content, Mapping) else {}
    _last = _Content(
        id(content), id(inner.get('state_dict')), source, inner.get('meta')
    )


def forget_content() -> None:
    """Forget what was loaded last: others may get its identities."""
    global _last
    _last = _NOTHING


def _recall(content: Any) -> tuple[Any, str]:
    """The whole content, or what is known of it, and its file."""
    if id(content) == _last.whole:
        return content, _last.source
    if id(content) == _last.weights:
        return dict(state_dict=content, meta=_last.meta), _last.source
    return content, _NOTHING.source
