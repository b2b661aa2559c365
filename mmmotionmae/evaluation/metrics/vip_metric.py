# Copyright (c) MotionMAE contributors. All rights reserved.
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from mmaction.registry import METRICS
from mmengine.logging import print_log
from PIL import Image

from ...datasets.sequences import VIPDataset, read_mask
from ...utils.errors import MaskError
from ..functional.semantic_segmentation import (
    confusion_matrix,
    segmentation_scores,
)
from .sequence_metric import MaskMetric

CLASSES = VIPDataset.METAINFO['classes']


@METRICS.register_module()
class VIPMetric(MaskMetric):
    """Mean intersection over union of the parts of people in VIP.

    The values are those of ``eval_vip.py`` of
    https://github.com/ajabri/videowalk and
    https://github.com/alexandre-eymael/CropMAE: the pixels of all frames of
    all videos are counted together, those of the first frame too. Pixels
    whose ground truth is no category (255) do not count.

    In ``out_dir`` are afterwards ``masks/<sequence>/<frame>.png``. Masks of
    another size than the ground truth are resized (nearest) to be scored.

    Args:
        out_dir (str | Path, optional): The folder. Defaults to None: to be
            set before the first batch.
        num_workers (int, optional): See :class:`SequenceMetric`. Defaults to
            None.
        collect_device (str): ``'cpu'`` or ``'gpu'``. Defaults to ``'cpu'``.
        prefix (str, optional): Defaults to None: ``'vip'``.
    """

    default_prefix = 'vip'

    def __init__(
        self,
        out_dir: str | os.PathLike[str] | None = None,
        num_workers: int | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(
            out_dir, num_workers, collect_device=collect_device, prefix=prefix
        )

    def scoring(self, sample: dict) -> Callable[[], np.ndarray]:
        """Scoring of the masks on disk."""
        folder = self.mask_folder(sample['sequence'])
        paths = [folder / f'{name}.png' for name in sample['frame_names']]
        return partial(score_categories, paths, sample['mask_paths'])

    def compute_metrics(self, results: list) -> dict:
        """Log the scores.

        Args:
            results: What :func:`score_categories` gives for each sequence.

        Returns:
            ``mIoU``, ``mAcc`` and ``aAcc``, see :func:`segmentation_scores`,
            and ``num_sequences``.
        """
        scores, iou = segmentation_scores(np.sum(results, axis=0))
        lines = [
            f'{name:<15}{100 * value:7.2f}'
            for name, value in zip(CLASSES, iou, strict=True)
        ]
        lines += ['-' * 22, f'{"mIoU":<15}{100 * scores["mIoU"]:7.2f}']
        print_log('\n' + '\n'.join(lines), logger='current')
        return dict(scores, num_sequences=len(results))


def score_categories(
    paths: Sequence[Path], gt_paths: Sequence[str]
) -> np.ndarray:
    """Compare the masks of a sequence with the ground truth, in files.

    Args:
        paths: The mask of each frame.
        gt_paths: The ground truth of each frame.

    Returns:
        The counts of all frames, (20, 20), see :func:`confusion_matrix`.

    Raises:
        MaskError: If a file cannot be read, or a value in a mask is no
            category.
    """
    confusion = np.zeros((len(CLASSES),) * 2, np.int64)
    for path, gt_path in zip(paths, gt_paths, strict=True):
        gt, mask = _read_ground_truth(gt_path), read_mask(path)
        if mask.shape != gt.shape:
            picture = Image.fromarray(mask)
            size = gt.shape[1], gt.shape[0]
            mask = np.array(picture.resize(size, Image.Resampling.NEAREST))
        try:
            confusion += confusion_matrix(gt, mask, len(CLASSES))
        except ValueError as error:
            raise MaskError(f'{path}: {error}') from error
    return confusion


def _read_ground_truth(path: str) -> np.ndarray:
    """Categories (H, W); other than in :func:`read_mask` 255 is kept."""
    try:
        with Image.open(path) as picture:
            values = np.array(picture)
    except (OSError, SyntaxError) as error:  # the latter for a broken chunk
        raise MaskError(f'{path} cannot be read: {error}') from error
    if values.ndim != 2:
        raise MaskError(
            f'{path} is a colour image; categories are the values of a '
            'palette PNG or a grey one.'
        )
    return values
