# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import os.path as osp
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmaction.registry import DATASETS
from mmengine.logging import MMLogger
from scipy.io import loadmat

from ...utils.errors import SequenceError
from .sequence_dataset import SequenceDataset, list_files

NUM_JOINTS = 15


@DATASETS.register_module()
class JHMDBDataset(SequenceDataset):
    """JHMDB, short videos with 15 joints of one person in every frame.

    The layout of the owners (http://jhmdb.is.tue.mpg.de)::

        data_root/
          Rename_Images/<action>/<video>/00001.png ...
          joint_positions/<action>/<video>/joint_positions.mat
          splits/<action>_test_split1.txt

    A sequence is ``<action>/<video>``. Adds ``keypoints`` to the data infos
    of the base class: (T, 15, 2) float64, x and y in pixels from 0. All
    annotations are read at the start. There are no masks: ``mask_paths`` are
    None.

    If a video has more frames than annotations or the reverse, what is left
    over at the end is not used, and a warning says so.

    Args:
        pipeline (list[dict]): The transforms. :class:`PackSequence` needs
            ``meta_keys=['keypoints']``.
        data_root (str): The folder of the data set.
        ann_file (str): What to use, relative to ``data_root``. A folder of
            lists as the owners ship them, ``splits`` or, for sub-JHMDB,
            ``sub_splits``: lines of ``<video>.avi`` and 1 or 2; those with 2
            are taken. Or one list of videos, as in
            https://github.com/alexandre-eymael/CropMAE: lines of the path of
            a ``joint_positions.mat`` and of a folder of frames, whose last
            two parts count. Defaults to ``'splits'``.
        split (int): Number of the split, 1 to 3, for a folder of lists.
            Defaults to 1.
        **kwargs: As in :class:`SequenceDataset`: ``sequences``, ...

    Raises:
        FileNotFoundError: If a list, the frames of a video or its annotation
            is missing.
        SequenceError: If a list or an annotation is malformed, or a frame in
            the middle is missing.
    """

    METAINFO = dict(
        joints=(
            'neck',
            'belly',
            'head',
            'right_shoulder',
            'left_shoulder',
            'right_hip',
            'left_hip',
            'right_elbow',
            'left_elbow',
            'right_knee',
            'left_knee',
            'right_wrist',
            'left_wrist',
            'right_ankle',
            'left_ankle',
        )
    )

    def __init__(
        self,
        pipeline: list[dict | Callable],
        data_root: str | os.PathLike[str],
        ann_file: str = 'splits',
        split: int = 1,
        **kwargs: Any,
    ) -> None:
        self.split = split
        super().__init__(pipeline, data_root, ann_file=ann_file, **kwargs)

    def list_sequences(self) -> list[str]:
        """Read the list, or those of all actions."""
        path = Path(self.ann_file)
        if path.is_file():
            return _read_video_list(path)
        ending = f'_test_split{self.split}.txt'
        lists = sorted(path.glob(f'[!.]*{ending}'))
        if not lists:
            raise FileNotFoundError(
                f'{path} is neither a list nor a folder with lists named '
                f'<action>{ending}: choose with `ann_file` and `split`.'
            )
        return [
            f'{file.name.removesuffix(ending)}/{video}'
            for file in lists
            for video in _read_test_videos(file)
        ]

    def find_sequence(self, sequence: str) -> dict:
        """Find the frames, and read the joints."""
        folder = osp.join(self.data_root, 'Rename_Images', sequence)
        frames = list_files(folder, ('.png',))
        if not frames:
            raise FileNotFoundError(
                f'{sequence!r} has no frames: {folder} is missing or empty.'
            )
        for number, stem in enumerate(frames, start=1):
            if not stem.isdecimal() or int(stem) != number:
                raise SequenceError(
                    f'{folder}: frames must be numbered from 1 without gaps; '
                    f'number {number} is {frames[stem]}.'
                )
        path = osp.join(
            self.data_root, 'joint_positions', sequence, 'joint_positions.mat'
        )
        joints = read_joints(path)
        length = min(len(frames), len(joints))
        if len(frames) != len(joints):
            MMLogger.get_current_instance().warning(
                f'{folder} has {len(frames)} frames, {path} joints of '
                f'{len(joints)}; the first {length} are used.'
            )
        return dict(
            frame_paths=list(frames.values())[:length],
            mask_paths=[None] * length,
            keypoints=joints[:length],
        )


def read_joints(path: str) -> np.ndarray:
    """Read the joints of a video from ``joint_positions.mat``.

    Args:
        path: The file; ``pos_img`` in it is (2, 15, T), x and y in pixels
            from 1, as MATLAB counts.

    Returns:
        (T, 15, 2) float64, x and y in pixels from 0.

    Raises:
        FileNotFoundError: If there is no such file.
        SequenceError: If it cannot be read, or holds something else.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'{path} is missing, the joints of a video.')
    try:
        joints = np.asarray(loadmat(path)['pos_img'], dtype=np.float64)
    except Exception as error:  # of a dozen kinds, for a broken file
        raise SequenceError(
            f'{path} cannot be read as joints of JHMDB: '
            f'{type(error).__name__}: {error}'
        ) from error
    if joints.ndim != 3 or joints.shape[:2] != (2, NUM_JOINTS):
        raise SequenceError(
            f'{path}: pos_img has shape {joints.shape}; expected '
            f'(2, {NUM_JOINTS}, frames).'
        )
    if not joints.size or not np.isfinite(joints).all():
        raise SequenceError(f'{path}: pos_img is empty, or not finite.')
    return joints.transpose(2, 1, 0) - 1


def _read_video_list(path: Path) -> list[str]:
    """Names ``<action>/<video>`` from the second column of a list."""
    names = []
    lines = path.read_text(encoding='utf-8-sig').splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        parts = Path(line.split()[-1]).parts
        if len(line.split()) != 2 or len(parts) < 2:
            raise SequenceError(
                f'{path}, line {number}: expected the paths of a '
                'joint_positions.mat and of a folder <action>/<video>, got '
                f'{line!r}.'
            )
        names.append('/'.join(parts[-2:]))
    return names


def _read_test_videos(path: Path) -> list[str]:
    """Names, without extension, of those videos that are to be tested."""
    videos = []
    lines = path.read_text(encoding='utf-8-sig').splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, part = line.strip().rpartition(' ')
        if not name or part not in ('0', '1', '2'):
            raise SequenceError(
                f'{path}, line {number}: expected a video and 1 (training) '
                f'or 2 (test), got {line!r}.'
            )
        if part == '2':
            videos.append(osp.splitext(name.strip())[0])
    return videos
