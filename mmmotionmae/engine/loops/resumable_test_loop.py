# Copyright (c) MotionMAE contributors. All rights reserved.
import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

from mmaction.registry import LOOPS
from mmengine.dist import barrier, broadcast_object_list, is_main_process

from ...utils.errors import DifferentResultsError, UsageError
from ...utils.progress import PartWriter, PredictionParts
from ...utils.provenance import make_card
from ..hooks.bad_videos_hook import robust_datasets
from .amp_test_loop import AmpTestLoop


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
        self.parts = PredictionParts(Path(f'{out_file}.parts'))
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
        with self.parts.new_file() as file:
            self.evaluator = PartWriter(
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
            shutil.rmtree(self.parts.folder)
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics

    def _leave_out_what_is_done(self) -> None:
        """Set up the sampler."""
        found: list[Any] = [None, {}, None]
        if is_main_process():  # all go by what it finds
            try:
                found[:2] = self._open_parts()
            except DifferentResultsError as error:
                found[2] = (
                    f'{self.parts.folder} holds the predictions of an '
                    f'interrupted test of something else ({error}). Choose '
                    'another name for --dump, or start anew (--overwrite).'
                )
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
            for name, reason in bad.items():
                dataset.bad_videos.add(name, reason)

    def _open_parts(self) -> tuple[set[int], dict[str, str]]:
        """Which samples are done, and which videos are known to be bad."""
        note = self.parts.open(self._make_card(), self.overwrite)
        if note:
            self.runner.logger.info(note)
        done: set[int] = set()
        bad: dict[str, str] = {}
        for batch in self.parts.read():
            done.update(batch.indices)
            bad.update(batch.bad)
        return done, bad

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
        for batch in self.parts.read():
            for i, sample in zip(batch.indices, batch.samples, strict=True):
                if i in share:
                    stored[i] = sample
        if share - stored.keys():
            raise RuntimeError(
                f'{self.parts.folder} lacks predictions of other processes: '
                'is it on a disk that all of them share?'
            )
        step = self.dataloader.batch_size
        for start in range(0, count, step):
            samples = [stored[i] for i in indices[start : start + step]]
            self.evaluator.process(data_samples=samples, data_batch=None)
