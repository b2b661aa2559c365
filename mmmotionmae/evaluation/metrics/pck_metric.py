# Copyright (c) MotionMAE contributors. All rights reserved.
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from mmaction.registry import METRICS
from mmengine.dist import get_rank
from mmengine.logging import print_log

from ...datasets.sequences import JHMDBDataset
from ...utils.files import complete_file
from ..functional.pck import normalized_distances, pck
from .sequence_metric import SequenceMetric

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


@METRICS.register_module()
class PCKMetric(SequenceMetric):
    """Percentage of correct keypoints of poses propagated through JHMDB.

    The values are those of ``eval_pck.py`` of
    https://github.com/ajabri/videowalk and
    https://github.com/alexandre-eymael/CropMAE, as shares of 1. Joints that
    are lost do not count there, neither as right nor as wrong; how many there
    are is reported as ``lost_joints``.

    That program fails if a joint is lost in all frames of all videos; here
    the mean is then over the other joints.

    In ``out_dir`` are afterwards ``keypoints/<sequence>.npy``: (T, K, 2)
    float32, x and y in pixels from 0, NaN where a joint is lost.

    Args:
        out_dir (str | Path, optional): The folder. Defaults to None: to be
            set before the first batch.
        num_workers (int, optional): See :class:`SequenceMetric`. Defaults to
            0, as there is little to do.
        collect_device (str): ``'cpu'`` or ``'gpu'``. Defaults to ``'cpu'``.
        prefix (str, optional): Defaults to None: ``'jhmdb'``.
    """

    default_prefix = 'jhmdb'

    def __init__(
        self,
        out_dir: str | os.PathLike[str] | None = None,
        num_workers: int | None = 0,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(
            out_dir, num_workers, collect_device=collect_device, prefix=prefix
        )

    def keypoint_path(self, sequence: str) -> Path:
        """Path of the joints of a sequence."""
        return self.folder() / 'keypoints' / f'{sequence}.npy'

    def is_finished(self, sequence: str) -> bool:
        """Tell whether the joints of a sequence are on disk."""
        return self.keypoint_path(sequence).is_file()

    def save(self, sample: dict) -> None:
        """Write the joints of all frames.

        Args:
            sample: Has ``pred_keypoints``, float32 (T, K, 2), and
                ``keypoints``, the ground truth, of the same shape.

        Raises:
            ValueError: If there is not one joint for each annotated one.
        """
        sequence, joints = sample['sequence'], sample['pred_keypoints']
        if joints.shape != sample['keypoints'].shape:
            raise ValueError(
                f'{sequence}: the model has predicted joints of shape '
                f'{joints.shape}, annotated are {sample["keypoints"].shape}.'
            )
        path = self.keypoint_path(sequence)
        # In distributed tests two ranks may have the same sequence.
        suffix = f'.rank{get_rank()}.tmp'
        with (
            complete_file(path, suffix) as temporary,
            temporary.open('wb') as file,
        ):
            np.save(file, joints)

    def scoring(self, sample: dict) -> Callable[[], np.ndarray]:
        """Scoring of the joints on disk."""
        return partial(
            score_joints,
            self.keypoint_path(sample['sequence']),
            sample['keypoints'],
        )

    def compute_metrics(self, results: list) -> dict:
        """Log the scores.

        Args:
            results: What :func:`score_joints` gives for each sequence.

        Returns:
            ``PCK@0.1`` to ``PCK@0.5``, means over the joints, and
            ``lost_joints``, the share of joints that are lost, all between 0
            and 1; and ``num_sequences``.
        """
        distances = np.concatenate(results)
        values = {t: pck(distances, t) for t in THRESHOLDS}
        table = [[*shares, mean] for mean, shares in values.values()]
        print_log(f'\n{_format_table(np.transpose(table))}', logger='current')
        # The first frames, which do not count, are NaN, too.
        scored = np.concatenate([result[1:] for result in results])
        return {
            **{f'PCK@{t}': mean for t, (mean, _) in values.items()},
            'lost_joints': float(np.isnan(scored).mean()),
            'num_sequences': len(results),
        }


def score_joints(path: Path, gt: np.ndarray) -> np.ndarray:
    """Compare the joints of a sequence, in a file, with the ground truth.

    Args:
        path: The file, see :class:`PCKMetric`.
        gt: (T, K, 2), the ground truth.

    Returns:
        The distances, (T, K), see :func:`normalized_distances`.

    Raises:
        ValueError: If the file cannot be read, or is of another shape.
    """
    try:
        return normalized_distances(np.load(path), gt)
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(f'{path} cannot be scored: {error}') from error


def _format_table(table: np.ndarray) -> str:
    """PCK of each joint, and the means, times 100; from (K + 1, N)."""
    names = (*JHMDBDataset.METAINFO['joints'], 'mean')
    lines = [f'{"PCK@":<15}' + ''.join(f'{t:>7}' for t in THRESHOLDS)]
    lines += [
        f'{name:<15}' + ''.join(f'{100 * value:7.2f}' for value in values)
        for name, values in zip(names, table, strict=True)
    ]
    return '\n'.join(lines)
