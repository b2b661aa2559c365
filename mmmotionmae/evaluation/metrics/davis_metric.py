# Copyright (c) MotionMAE contributors. All rights reserved.
import logging
import os
from collections.abc import Callable
from functools import partial

from mmaction.registry import METRICS
from mmengine.logging import print_log

from ..davis_report import format_table, list_oddities, write_report
from ..davis_scoring import MaskFiles, SequenceScores, score_masks, summarize
from .sequence_metric import MaskMetric


@METRICS.register_module()
class DAVISMetric(MaskMetric):
    """Region similarity J and boundary accuracy F of masks, as for DAVIS.

    The values are those of the official program of DAVIS-2017
    (semi-supervised); see :mod:`mmmotionmae.evaluation.functional.davis`.

    In ``out_dir`` are afterwards ``masks/<sequence>/<frame>.png``, which
    evaluation servers take as they are, and the files of
    :func:`write_report`.

    Args:
        out_dir (str | Path, optional): The folder. Defaults to None: to be
            set before the first batch.
        split (str): Part of the names of the CSV files. Defaults to
            ``'val'``.
        num_workers (int, optional): See :class:`SequenceMetric`. Defaults to
            None.
        format_only (bool): Whether to write the masks without scoring them,
            as for DAVIS test-dev. Defaults to False.
        resize (tuple[int, int], optional): Height and width to which masks
            and ground truth are resized (nearest) before they are scored;
            those on disk stay as they are. The published numbers of CropMAE,
            SiamMAE and RSP are scored at (480, 880), where boundaries may be
            9 pixels apart instead of the 8 of 480x854, so that F is higher.
            Defaults to None, as the official program does it.
        collect_device (str): ``'cpu'`` or ``'gpu'``. Defaults to ``'cpu'``.
        prefix (str, optional): Defaults to None: ``'davis'``.

    Raises:
        ValueError: If ``resize`` is not two sizes above 0.
    """

    default_prefix = 'davis'

    def __init__(
        self,
        out_dir: str | os.PathLike[str] | None = None,
        split: str = 'val',
        num_workers: int | None = None,
        format_only: bool = False,
        resize: tuple[int, int] | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(
            out_dir, num_workers, format_only, collect_device, prefix
        )
        if resize is not None and (len(resize) != 2 or min(resize) < 1):
            raise ValueError(f'resize must be (height, width), not {resize}')
        self.split = split
        # A config file may have it as a list.
        self.resize = None if resize is None else (resize[0], resize[1])

    def scoring(self, sample: dict) -> Callable[[], SequenceScores]:
        """Scoring of the masks on disk."""
        files = MaskFiles(
            sample['sequence'],
            sample['frame_names'],
            sample['mask_paths'],
            self.mask_folder(sample['sequence']),
            sample['binary_masks'],
            self.resize,
        )
        return partial(score_masks, files)

    def compute_metrics(self, results: list) -> dict:
        """Write and log the scores.

        Args:
            results: :class:`SequenceScores` of all sequences; with
                ``format_only`` their names.

        Returns:
            See :func:`summarize`; with ``format_only`` the number of
            sequences.
        """
        if self.format_only:
            print_log(
                f'The masks of {len(results)} sequences are in '
                f'{self.folder() / "masks"}.',
                logger='current',
            )
            return dict(num_sequences=len(results))
        write_report(results, self.folder(), self.split, self.resize)
        print_log(f'\n{format_table(results)}', logger='current')
        for oddity in list_oddities(results):
            print_log(oddity, logger='current', level=logging.WARNING)
        return summarize(results)
