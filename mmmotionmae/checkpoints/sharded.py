# Copyright (c) MotionMAE contributors. All rights reserved.
"""Checkpoints in folders, of which each process writes and reads a part.

Those of ``torch.distributed.checkpoint``, which pickles what it knows of the
tensors into ``.metadata``. That is written for PyTorch's own tools, and never
read here: ``index.json`` says the same. What is not spread over processes is
in ``rest.pth``, which is loaded as any checkpoint is: no code runs.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from mmengine.dist import is_main_process
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.tensor import DTensor

from ..compat import to_plain
from ..utils.errors import CheckpointError
from ..utils.files import complete_file, replace_folder
from ..utils.sharded_folders import (
    INDEX,
    REST,
    problem_of_folder,
    read_index,
    temporary_folder,
)
from .trust import loading_checkpoint

Place = Callable[[tuple[Any, ...], torch.Size, torch.dtype], Tensor | None]
"""Gives what a tensor is to be read into: place in the checkpoint, shape,
dtype; None: a tensor of the whole, on the CPU."""

_MARK = 'mmmotionmae.sharded'  # stands in `rest.pth` for a tensor
_placing: ContextVar[Place | None] = ContextVar('placing', default=None)


@contextmanager
def placing(place: Place) -> Iterator[None]:
    """Let :func:`read_sharded` inside read into tensors of this choice."""
    token = _placing.set(place)
    try:
        yield
    finally:
        _placing.reset(token)


# -------------------------------------------------------------------- writing


class _Writer(dcp.FileSystemWriter):
    """Lets a folder appear under its name once all processes are done."""

    def __init__(self, folder: Path, rest: bytes) -> None:
        super().__init__(temporary_folder(folder))
        self.folder = folder
        self.rest = rest

    def finish(self, metadata: Metadata, results: Any) -> None:
        """Complete the folder; the main process does, after all others."""
        super().finish(metadata, results)
        made = temporary_folder(self.folder)
        with complete_file(made / REST) as path:
            path.write_bytes(self.rest)
        with complete_file(made / INDEX) as path:
            path.write_text(json.dumps(_describe(metadata)))
        replace_folder(made, self.folder)


def write_sharded(
    checkpoint: dict[str, Any],
    folder: Path,
    group: dist.ProcessGroup | None = None,
    asynchronous: bool = False,
) -> Future | None:
    """Write a checkpoint into a folder; all processes call this.

    It is written under a temporary name beside it, and renamed once all
    processes have written their part.

    Args:
        checkpoint: Dicts and lists; each :class:`DTensor` in it is written in
            parts, all else by the main process. Nothing of it is needed any
            more when this returns.
        folder: Replaced if it exists.
        group: Of gloo, with all processes, in which nothing else is going on.
        asynchronous: Whether to copy the tensors to the host, and write them
            while the caller goes on.

    Returns:
        What ends when the folder is there, if ``asynchronous``.

    Raises:
        CheckpointError: If it cannot be written, unless ``asynchronous``.
    """
    tensors: dict[str, Tensor] = {}
    rest, buffer = _take_tensors(checkpoint, (), tensors), BytesIO()
    if is_main_process():
        torch.save(to_plain(rest), buffer)
    writer = _Writer(folder, buffer.getvalue())
    options: Any = dict(storage_writer=writer, process_group=group)
    if asynchronous:
        future: Any = dcp.async_save(tensors, **options)
        return future
    try:
        dcp.save(tensors, **options)
    except CheckpointException as error:
        raise cannot_write(error) from error
    return None


def cannot_write(error: BaseException) -> CheckpointError:
    """The error of a checkpoint that could not be written, for people."""
    return CheckpointError(
        f'The last checkpoint could not be written ({reason_of(error)}).'
    )


def _take_tensors(
    value: Any, path: tuple[Any, ...], tensors: dict[str, Tensor]
) -> Any:
    """A copy with marks in the place of tensors that are spread."""
    if isinstance(value, DTensor):
        name = '/'.join(map(str, path))
        tensors[name] = value.detach()
        return {_MARK: name}
    if isinstance(value, dict):
        copy = type(value)(
            (key, _take_tensors(item, (*path, key), tensors))
            for key, item in value.items()
        )
        if hasattr(value, '_metadata'):  # versions inside a state dict
            vars(copy)['_metadata'] = value._metadata
        return copy
    if isinstance(value, (list, tuple)):
        return type(value)(
            _take_tensors(item, (*path, i), tensors)
            for i, item in enumerate(value)
        )
    return value


def _describe(metadata: Metadata) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for name, tensor in metadata.state_dict_metadata.items():
        assert isinstance(tensor, TensorStorageMetadata)
        dtype = str(tensor.properties.dtype).removeprefix('torch.')
        tensors[name] = dict(dtype=dtype, shape=[*tensor.size], parts=[])
        for chunk in tensor.chunks:
            stored = metadata.storage_data[MetadataIndex(name, chunk.offsets)]
            tensors[name]['parts'].append(
                dict(
                    offset=[*chunk.offsets],
                    shape=[*chunk.sizes],
                    file=stored.relative_path,
                    start=stored.offset,
                    length=stored.length,
                )
            )
    return dict(version=1, tensors=tensors)


# -------------------------------------------------------------------- reading


class _Reader(dcp.FileSystemReader):
    """Reads what ``index.json`` says, and unpickles nothing else."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Read the index."""
        tensors: dict[str, Any] = {}
        stored: dict[MetadataIndex, _StorageInfo] = {}
        for name, tensor in read_index(Path(self.path))['tensors'].items():
            chunks = []
            for part in tensor['parts']:
                offset = torch.Size(part['offset'])
                chunks.append(
                    ChunkStorageMetadata(offset, torch.Size(part['shape']))
                )
                stored[MetadataIndex(name, offset)] = _StorageInfo(
                    part['file'], part['start'], part['length']
                )
            tensors[name] = TensorStorageMetadata(
                TensorProperties(dtype=_dtype(tensor['dtype'])),
                torch.Size(tensor['shape']),
                chunks,
            )
        return Metadata(
            tensors, storage_data=stored, storage_meta=StorageMeta()
        )


def read_sharded(folder: Path) -> dict[str, Any]:
    """Read a checkpoint that :func:`write_sharded` has written.

    By any number of processes, each on its own; see :func:`placing` for
    those that need a part of each tensor only.

    Args:
        folder: The checkpoint.

    Returns:
        The content.

    Raises:
        CheckpointError: If it is incomplete, damaged, or holds more than
            data.
    """
    problem = problem_of_folder(folder)
    if problem is not None:
        raise CheckpointError(f'{folder} {problem}.')
    try:
        with loading_checkpoint():
            return _read(folder)
    except (CheckpointException, UnpicklingError) as error:
        raise CheckpointError(
            f'{folder} was not loaded: it is damaged, or holds more than '
            f'tensors and plain values ({reason_of(error)}).'
        ) from error


def _read(folder: Path) -> dict[str, Any]:
    content = torch.load(folder / REST, map_location='cpu', weights_only=True)
    tensors: dict[str, Tensor] = {}
    content = _put_tensors(content, (), read_index(folder), tensors)
    with warnings.catch_warnings():
        # Each process reads on its own, as it is meant to.
        warnings.filterwarnings('ignore', 'torch.distributed is disabled')
        if tensors:
            dcp.load(tensors, storage_reader=_Reader(folder), no_dist=True)
    return dict(content)


def reason_of(error: BaseException) -> str:
    """The reason for a failure, without tracebacks, in one line."""
    failures = getattr(error, 'failures', None)  # of each process
    if failures:
        error = next(iter(failures.values()))[0]
    first = str(error).strip().split('\n')[0]
    return f'{type(error).__name__}: {first}'


def _put_tensors(
    value: Any, path: tuple[Any, ...], index: Any, tensors: dict[str, Tensor]
) -> Any:
    """Replace marks by tensors that are still to be read, in place."""
    if isinstance(value, dict) and value.keys() == {_MARK}:
        name = value[_MARK]
        shape = torch.Size(index['tensors'][name]['shape'])
        dtype = _dtype(index['tensors'][name]['dtype'])
        place = _placing.get()
        tensor = None if place is None else place(path, shape, dtype)
        if tensor is None:
            tensor = torch.empty(shape, dtype=dtype)
        tensors[name] = tensor
        return tensor
    if isinstance(value, dict):
        for key in value:
            value[key] = _put_tensors(value[key], (*path, key), index, tensors)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            value[i] = _put_tensors(item, (*path, i), index, tensors)
    return value


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise CheckpointError(f'There is no type of tensors {name!r}.')
    return dtype
