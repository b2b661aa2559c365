# Copyright (c) MotionMAE contributors. All rights reserved.

import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from ...datasets.sequences import write_mask
from ...utils.files import complete_folder
from ...utils.processes import ScoringPool, default_num_workers


class SequenceMetric(BaseMetric):
    """Base of metrics that compare results of whole videos, in files.

    The results of a sequence are written as soon as they are there, at once
    or not at all, so that a test that was interrupted can go on. Other
    processes then score them while the model goes on.

    A sample with ``finished=True`` is one whose results are there already; it
    is scored only.

    Attributes:
        out_dir (Path, optional): Where results go. May be set later than in
            the constructor, before the first batch.

    Args:
        out_dir (str | Path, optional): The folder. Defaults to None.
        num_workers (int, optional): How many processes score, on each rank;
            0: none but this. Defaults to None: as many CPUs as the rank has
            but one, at most 4.
        format_only (bool): Whether to write the results without scoring them,
            where there is no ground truth. Defaults to False.
        collect_device (str): ``'cpu'`` or ``'gpu'``. Defaults to ``'cpu'``.
        prefix (str, optional): Stands before the names of the metrics.
            Defaults to None: ``default_prefix``.
    """

    def __init__(
        self,
        out_dir: str | os.PathLike[str] | None = None,
        num_workers: int | None = None,
        format_only: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.format_only = format_only
        if num_workers is None:
            num_workers = default_num_workers()
        self._pool = ScoringPool[Any](num_workers)

    @abstractmethod
    def is_finished(self, sequence: str) -> bool:
        """Tell whether the results of a sequence are complete on disk."""

    @abstractmethod
    def save(self, sample: dict) -> None:
        """Write the results of a sequence, in a :func:`complete_folder`."""

    @abstractmethod
    def scoring(self, sample: dict) -> Callable[[], Any]:
        """Make the job of another process: to read and score the results.

        Args:
            sample: The data sample; its results are on disk, and there may
                be none in it.

        Returns:
            A function without arguments. It and what it returns must be
            picklable; it may not use PyTorch or OpenCV. What it returns for
            each sequence is what :meth:`compute_metrics` gets.
        """

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write the results of sequences, and have them scored.

        Raises:
            ValueError: If ``out_dir`` is not set, or results have the wrong
                form.
            ScoringError: If this sequence, or an earlier one, cannot be
                scored.
        """
        for sample in data_samples:
            if not sample['finished']:
                self.save(sample)
            if self.format_only:
                self.results.append(sample['sequence'])
            else:
                self._pool.submit(sample['sequence'], self.scoring(sample))

    def evaluate(self, size: int) -> dict:
        """Wait for the scores, and compute the metrics.

        Args:
            size: Number of samples of the data set.

        Returns:
            The metrics.

        Raises:
            ScoringError: If a sequence cannot be scored.
        """
        self.results += self._pool.finish()
        return super().evaluate(size)

    def folder(self) -> Path:
        """``out_dir``.

        Raises:
            ValueError: If it is not set.
        """
        if self.out_dir is None:
            raise ValueError(
                f'{type(self).__name__} has no folder for its results: give '
                'it an out_dir.'
            )
        return self.out_dir


class MaskMetric(SequenceMetric):
    """Base of metrics of masks: ``masks/<sequence>/<frame>.png``."""

    def mask_folder(self, sequence: str) -> Path:
        """Folder of the masks of a sequence."""
        return self.folder() / 'masks' / sequence

    def is_finished(self, sequence: str) -> bool:
        """Tell whether the masks of a sequence are complete on disk."""
        return any(self.mask_folder(sequence).glob('*.png'))

    def save(self, sample: dict) -> None:
        """Write the masks of all frames, the first one too.

        Args:
            sample: Has ``pred_masks``, uint8 (T, H, W), and ``frame_names``.

        Raises:
            ValueError: If there is not one mask for each frame.
        """
        sequence, names = sample['sequence'], sample['frame_names']
        masks = sample['pred_masks']
        if len(masks) != len(names):
            raise ValueError(
                f'{sequence} has {len(names)} frames, but the model has '
                f'predicted {len(masks)} masks.'
            )
        with complete_folder(self.mask_folder(sequence)) as folder:
            for name, mask in zip(names, masks, strict=True):
                write_mask(folder / f'{name}.png', mask)
