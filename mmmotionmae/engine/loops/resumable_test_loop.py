# Copyright (c) MotionMAE contributors. All rights reserved.
import hashlib
import json
import math
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmaction.registry import LOOPS
from mmengine.dist import (
    barrier,
    broadcast_object_list,
    get_rank,
    is_main_process,
)
from mmengine.structures import BaseDataElement

from ...checkpoints import load_plain, tensor_from_array
from ...utils.errors import UsageError
from ...utils.files import set_aside
from ...utils.progress import RecordFile, claim_folder, read_records
from ...utils.provenance import has_parts, make_card
from ..hooks.bad_videos_hook import robust_datasets
from .amp_test_loop import AmpTestLoop

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


def read_batches(folder: Path) -> Iterator[StoredBatch]:
    """Read the batches that all processes of all runs have stored.

    They are pickles of plain data, as the dump that is made of them.

    Args:
        folder: Of their :class:`BatchWriter` objects.

    Yields:
        The complete ones, file by file.

    Raises:
        UsageError: If one holds other objects, see :func:`load_plain`.
    """
    for path in sorted(folder.glob('*.part')):
        with open(path, 'rb') as file:
            for entry, data in read_records(file):
                samples = load_plain(BytesIO(data), str(path))
                yield StoredBatch(samples=samples, **entry)


class BatchWriter:
    """Stores predictions; stands in for the evaluator.

    Args:
        file: For the batches of this process.
        indices: The samples in the order in which they will come.
        read_bad: Gives the bad videos that are known by now, with reasons.
    """

    def __init__(
        self,
        file: RecordFile,
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
        indices = list(islice(self._indices, len(data_samples)))
        buffer = BytesIO()
        _Pickler(buffer).dump([sample.to_dict() for sample in data_samples])
        self._file.add(dict(indices=indices, bad=bad), buffer.getvalue())


class _Pickler(pickle.Pickler):
    """Stores tensors as arrays: on the CPU, no more than they show.

    PyTorch's own way takes several times as long, and stores all of what a
    view is a part of, such as the scores of the whole batch.
    """

    def reducer_override(self, value: Any) -> Any:
        """Reduce a tensor; other values as always."""
        if type(value) is not torch.Tensor:
            return NotImplemented
        value = value.detach().cpu()
        if value.dtype in _DTYPES:
            return tensor_from_array, (value.numpy(),)
        return value.clone().__reduce_ex__(pickle.DEFAULT_PROTOCOL)


@LOOPS.register_module()
class ResumableTestLoop(AmpTestLoop):
    """A test that goes on where an interrupted one has stopped.

    What the model gives is kept in ``<out_file>.parts``, batch by batch, with
    a card that says what made it: weights, model, pipeline, list of videos. A
    later test with the same card leaves out the samples that are done,
    whatever the number of processes then and now. At the end all that is
    stored goes to the evaluator, in the batches and in the order in which an
    uninterrupted test hands it over, but without the inputs, and the folder
    is removed.

    All processes must see the same folder.

    Args:
        out_file (str): The dump that a metric of the evaluator writes, see
            ``CompleteDumpResults``; only its name counts here.
        overwrite (bool): What becomes of a folder with another card. False:
            an error. True: it is renamed to ``<out_file>.parts-<date>``.
            Defaults to False.
        dataloader (dict): As in ``TestLoop``; its sampler is replaced.
        **kwargs: As in :class:`AmpTestLoop`.
    """

    evaluator: Any

    def __init__(
        self,
        *,
        out_file: str,
        overwrite: bool = False,
        dataloader: dict,
        **kwargs: Any,
    ) -> None:
        dataloader = dict(dataloader, sampler=dict(type='RemainingSampler'))
        super().__init__(dataloader=dataloader, **kwargs)
        self.folder = Path(f'{out_file}.parts')
        self.overwrite = overwrite

    def run(self) -> dict:
        """Test what is left to do, and evaluate everything.

        Returns:
            The metrics.

        Raises:
            UsageError: If there are predictions of something else.
        """
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        self._leave_out_what_is_done()
        evaluator = self.evaluator
        # Every process of every run has a file of its own.
        name = f'{time.time_ns()}-{get_rank()}.part'
        with RecordFile(self.folder / name) as file:
            self.evaluator = BatchWriter(
                file, self.dataloader.sampler.share, self._read_bad_videos
            )
            try:
                for idx, data_batch in enumerate(self.dataloader):
                    self.run_iter(idx, data_batch)
            finally:
                self.evaluator = evaluator
        barrier()  # all files are complete
        self._evaluator_gets_everything()
        metrics = evaluator.evaluate(len(self.dataloader.dataset))
        if is_main_process():
            shutil.rmtree(self.folder)
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics

    def _leave_out_what_is_done(self) -> None:
        """Set up the sampler."""
        found: list[Any] = [None, {}, None]
        if is_main_process() or has_parts(self.runner):
            card = self._make_card()
        if is_main_process():  # all go by what it finds
            try:
                found[:2] = self._open_folder(card)
            except UsageError as error:
                found[2] = str(error)
        broadcast_object_list(found)
        done, bad, problem = found
        if problem is not None:
            raise UsageError(problem)
        size = len(self.dataloader.dataset)
        left = [i for i in range(size) if i not in done]
        self.dataloader.sampler.indices = left
        if len(left) < size:
            self.runner.logger.info(
                f'Going on: {size - len(left)} of {size} samples are done.'
            )
        # For the list in the work dir.
        for dataset in robust_datasets(self.dataloader.dataset):
            indices = range(len(dataset)) if bad else ()
            for name in {dataset.name_of(i) for i in indices} & bad.keys():
                dataset.bad_videos.add(name, bad[name])

    def _open_folder(
        self, card: dict[str, Any]
    ) -> tuple[set[int], dict[str, str]]:
        """Find the samples that are done, and their bad videos."""
        problem = self._claim_folder(card)
        if problem and not self.overwrite:
            raise UsageError(
                f'{self.folder} holds the predictions of an interrupted test '
                f'of something else ({problem}). Choose another name for '
                '--dump, or start anew (--overwrite).'
            )
        if problem:
            earlier = set_aside(self.folder)
            self.runner.logger.info(
                f'What was in {self.folder} is now in {earlier}'
            )
            self._claim_folder(card)
        done: set[int] = set()
        bad: dict[str, str] = {}
        for batch in read_batches(self.folder):
            done.update(batch.indices)
            bad.update(batch.bad)
        return done, bad

    def _claim_folder(self, card: dict[str, Any]) -> str:
        return claim_folder(
            self.folder, card, in_use=any(self.folder.glob('*.part'))
        )

    def _make_card(self) -> dict[str, Any]:
        card = make_card(self.runner)
        fingerprint, dataset = card['fingerprint'], self.dataloader.dataset
        for name in ('out_file', 'overwrite'):
            fingerprint['test_cfg'].pop(name, None)
        # The list of the videos itself, not just its name.
        digest = hashlib.sha256()
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            digest.update(json.dumps(info, default=str).encode())
        fingerprint['list'] = digest.hexdigest()
        return card

    def _read_bad_videos(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for dataset in robust_datasets(self.dataloader.dataset):
            found |= dataset.bad_videos.read()
        return found

    def _evaluator_gets_everything(self) -> None:
        """Hand over what is stored, to each process its share.

        The shares are those of MMEngine's ``DefaultSampler``, from which
        ``collect_results`` restores the order of the data set.
        """
        sampler, size = self.dataloader.sampler, len(self.dataloader.dataset)
        count = math.ceil(size / sampler.world_size)
        indices = [
            (sampler.rank + i * sampler.world_size) % size
            for i in range(count)
        ]
        share, stored = set(indices), {}
        for batch in read_batches(self.folder):
            for i, sample in zip(batch.indices, batch.samples, strict=True):
                if i in share:
                    stored[i] = sample
        if share - stored.keys():
            raise RuntimeError(
                f'{self.folder} lacks predictions of other processes: '
                'is it on a disk that all of them share?'
            )
        step = self.dataloader.batch_size
        for start in range(0, count, step):
            samples = [stored[i] for i in indices[start : start + step]]
            self.evaluator.process(data_samples=samples, data_batch=None)
