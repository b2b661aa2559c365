# Copyright (c) MotionMAE contributors. All rights reserved.
"""Records of a test that is not finished, on disk."""

import json
import pickle
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from mmengine.dist import get_rank
from mmengine.structures import BaseDataElement

from .errors import DifferentResultsError
from .files import complete_file, set_aside
from .provenance import find_differences

CARD = 'card.json'
# Before each batch: its length in bytes, and its CRC-32.
_HEADER = struct.Struct('<QI')
_DTYPES = (  # those that NumPy has, too
    *(torch.float64, torch.float32, torch.float16, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
)


class StoredBatch(NamedTuple):
    """A batch of predictions.

    Attributes:
        indices: Of the samples, in the data set.
        samples: What ``to_dict`` of the data samples gives; read from a file,
            with tensors on the CPU.
        bad: Bad videos that were found meanwhile, with reasons.
    """

    indices: list[int]
    samples: list[dict]
    bad: dict[str, str]


class PredictionParts:
    """A folder for the predictions of a test, as they come.

    Every process of every run adds batches to a file of its own. One that was
    killed may leave an incomplete batch at the end, which does not count.

    The files are pickles, as the dump that is made of them: read only those
    whose source you trust.

    Args:
        folder: Made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, card: dict[str, Any], overwrite: bool) -> str | None:
        """Make sure that what is here belongs to the test that begins.

        Args:
            card: What makes the predictions, see :func:`make_card`.
            overwrite: Whether to rename a folder of something else.

        Returns:
            A sentence for the log if a folder was renamed.

        Raises:
            DifferentResultsError: If there are predictions of something else.
        """
        path = self.folder / CARD
        note = problem = None
        if path.exists():
            old = json.loads(path.read_text(encoding='utf-8'))
            problem = find_differences(old, card)
        elif any(self.folder.glob('*.part')):
            problem = f'there is no {CARD} that says what made them'
        if problem:
            if not overwrite:
                raise DifferentResultsError(problem)
            earlier = set_aside(self.folder)
            note = f'What was in {self.folder} is now in {earlier}'
        if not path.exists():
            with complete_file(path) as temporary:
                text = json.dumps(card, indent=2) + '\n'
                temporary.write_text(text, encoding='utf-8')
        return note

    def new_file(self) -> BinaryIO:
        """A file for the batches of this process."""
        name = f'{time.time_ns()}-{get_rank()}.part'
        return (self.folder / name).open('xb')

    def read(self) -> Iterator[StoredBatch]:
        """All complete batches, of all processes and runs."""
        for path in sorted(self.folder.glob('*.part')):
            data, start = path.read_bytes(), 0
            while start + _HEADER.size <= len(data):
                length, checksum = _HEADER.unpack_from(data, start)
                start += _HEADER.size
                block = data[start : start + length]
                start += length
                # A crash of the system may leave zeros.
                if not length or zlib.crc32(block) != checksum:
                    break
                yield StoredBatch(*pickle.loads(block))


class PartWriter:
    """Stores what the model gives; stands where the evaluator does.

    Args:
        file: See :meth:`PredictionParts.new_file`.
        indices: The samples in the order in which they will come.
        read_bad: Gives the bad videos that are known by now, with reasons.
    """

    def __init__(
        self,
        file: BinaryIO,
        indices: Sequence[int],
        read_bad: Callable[[], dict[str, str]],
    ) -> None:
        self._file = file
        self._indices = iter(indices)
        self._read_bad = read_bad
        self._stored_bad: dict[str, str] = {}

    def process(
        self, data_samples: Sequence[BaseDataElement], data_batch: Any = None
    ) -> None:
        """Store a batch."""
        bad: dict[str, str] = {}
        if any(sample.get('left_out') for sample in data_samples):
            found = self._read_bad()
            new = found.keys() - self._stored_bad.keys()
            bad = {name: found[name] for name in new}
            self._stored_bad = found
        batch = StoredBatch(
            list(islice(self._indices, len(data_samples))),
            [sample.to_dict() for sample in data_samples],
            bad,
        )
        buffer = BytesIO()
        _Pickler(buffer).dump(tuple(batch))
        block = buffer.getvalue()
        header = _HEADER.pack(len(block), zlib.crc32(block))
        self._file.write(header + block)
        self._file.flush()


class _Pickler(pickle.Pickler):
    """Stores tensors as arrays: on the CPU, no more than they show.

    PyTorch's own way takes several times as long, and stores all of what a
    view is a part of, such as the scores of the whole batch.
    """

    def reducer_override(self, value: Any) -> Any:
        """How a tensor is stored; other values as always."""
        if type(value) is not torch.Tensor:
            return NotImplemented
        value = value.detach().cpu()
        if value.dtype in _DTYPES:
            return torch.from_numpy, (value.numpy(),)
        return value.clone().__reduce_ex__(pickle.DEFAULT_PROTOCOL)
