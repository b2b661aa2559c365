# Copyright (c) MotionMAE contributors. All rights reserved.
"""Pickle and YAML files read as data: lists of videos, proposals, results."""

import builtins
import io
import os
import pickle
import sys
from typing import Any

import numpy as np
import torch
import yaml

from ..utils.errors import UsageError
from ..utils.patching import once
from .trust import HARMLESS, HOW_TO_TRUST, is_trusted, loading_checkpoint

# The constructors of plain values, arrays and tensors: they run nothing else.
_NUMPY = ('numpy.core', 'numpy._core')  # NumPy 1 and 2
_HARMLESS = {
    **{
        (module, name): getattr(builtins, name)
        for module in ('builtins', '__builtin__')  # Python 3 and 2
        for name in 'bool bytearray bytes complex dict float frozenset int '
        'list range set slice str tuple'.split()
    },
    **{(x.__module__, x.__name__): x for x in HARMLESS},
}
_HARMLESS_NAMES = {
    ('_codecs', 'encode'),
    ('collections', 'OrderedDict'),
    ('collections', 'defaultdict'),
    ('datetime', 'date'),
    ('datetime', 'datetime'),
    ('datetime', 'timedelta'),
    ('numpy', 'dtype'),
    ('numpy', 'ndarray'),
    *((f'{m}.multiarray', '_reconstruct') for m in _NUMPY),
    *((f'{m}.multiarray', 'scalar') for m in _NUMPY),
    *((f'{m}.numeric', '_frombuffer') for m in _NUMPY),
    ('torch', 'Size'),
    ('torch', 'device'),
    (__name__, 'tensor_from_array'),
    ('torch._utils', '_rebuild_parameter'),
    ('torch._utils', '_rebuild_tensor_v2'),
}


def tensor_from_array(array: np.ndarray) -> torch.Tensor:
    """Make a tensor of an array in a pickle; the two share their memory."""
    return torch.from_numpy(array)


class UnsafePickleError(pickle.UnpicklingError):
    """A pickle names what could run code."""


class PlainUnpickler(pickle.Unpickler):
    """An unpickler of plain values, arrays and tensors, and of nothing else.

    With :func:`trust_checkpoints`, of anything.

    Raises:
        UnsafePickleError: For another object. It names its type.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Find what a pickle names."""
        if is_trusted() or (module, name) in _HARMLESS_NAMES:
            return super().find_class(module, name)
        if (module, name) in _HARMLESS:
            return _HARMLESS[module, name]
        if (module, name) == ('torch.storage', '_load_from_bytes'):
            return _load_from_bytes  # PyTorch's own unpickles anything
        if module == 'torch' and isinstance(
            getattr(torch, name, None), torch.dtype
        ):
            return getattr(torch, name)
        raise UnsafePickleError(f'{module}.{name}')


def _load_from_bytes(data: bytes) -> Any:
    try:
        with loading_checkpoint():
            return torch.load(io.BytesIO(data))
    except pickle.UnpicklingError as error:
        raise UnsafePickleError('objects among the tensors') from error


def load_plain(file: Any, name: str, **kwargs: Any) -> Any:
    """Read a pickle without running code.

    Args:
        file: Opened for bytes.
        name: Of the file, for messages.
        **kwargs: As for ``pickle.load``.

    Raises:
        UsageError: If it holds more than :class:`PlainUnpickler` takes.
    """
    try:
        return PlainUnpickler(file, **kwargs).load()
    except UnsafePickleError as error:
        raise _refusal(name, 'pickle', str(error)) from error


def _refusal(name: str, kind: str, reason: str) -> UsageError:
    return UsageError(
        f'{name} is no {kind} of plain data ({reason}): to read it could run '
        f'code, so it was not read. {HOW_TO_TRUST}'
    )


class _PlainLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):  # type: ignore[misc]
    """Plain values, and the tuples that MMEngine writes."""


_PlainLoader.add_constructor(
    'tag:yaml.org,2002:python/tuple',
    lambda loader, node: tuple(loader.construct_sequence(node, deep=True)),
)


@once
def read_plain_files() -> None:
    """MMEngine's ``load`` runs the code in pickle and YAML files.

    Data sets read lists and proposals with it, which are downloaded like
    weights. Here, unless :func:`trust_checkpoints` was called, plain values,
    NumPy arrays and tensors are read, anything else is refused.

    Remove when: MMEngine reads pickles with a restricted unpickler, and YAML
    with a safe loader.

    Raises:
        UsageError: Not here, but where a file holds anything else.
    """
    from mmengine.fileio.handlers.pickle_handler import PickleHandler
    from mmengine.fileio.handlers.yaml_handler import YamlHandler

    load_yaml = YamlHandler.load_from_fileobj

    def load_from_pickle(self: PickleHandler, file: Any, **kwargs: Any) -> Any:
        return load_plain(file, _name_in_caller(file), **kwargs)

    def load_from_yaml(self: YamlHandler, file: Any, **kwargs: Any) -> Any:
        if is_trusted():
            return load_yaml(self, file, **kwargs)
        kwargs['Loader'] = _PlainLoader
        try:
            return load_yaml(self, file, **kwargs)
        except yaml.constructor.ConstructorError as error:
            name, reason = _name_in_caller(file), error.problem or 'a tag'
            raise _refusal(name, 'YAML', reason) from error

    PickleHandler.load_from_fileobj = load_from_pickle
    YamlHandler.load_from_fileobj = load_from_yaml


def _name_in_caller(file: Any) -> str:
    """The file's name: ``mmengine.load`` gives its content alone."""
    given = sys._getframe(2).f_locals.get('file')
    if isinstance(given, (str, os.PathLike)):
        return os.fspath(given)
    return str(getattr(file, 'name', 'The file'))
