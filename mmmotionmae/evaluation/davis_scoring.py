# Copyright (c) MotionMAE contributors. All rights reserved.
"""Score masks in files, and sum the scores up, as DAVIS does."""

import math
import os
import os.path as osp
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..datasets.sequences import VOID, DAVISDataset, object_ids, read_mask
from ..utils.errors import MaskError
from ..utils.processes import ScoringPool
from .functional.davis import ObjectScores, evaluate_sequence

UInt8Array = npt.NDArray[np.uint8]

MEASURES = (
    'J&F-Mean',
    'J-Mean',
    'J-Recall',
    'J-Decay',
    'F-Mean',
    'F-Recall',
    'F-Decay',
)


@dataclass(frozen=True)
class MaskFiles:
    """The masks of a sequence, and what they are to be compared with.

    Attributes:
        sequence: Name of the sequence.
        frame_names: Of all frames, in order.
        gt_paths: Ground truth of each frame, None where there is none. Needed
            are all but the last.
        folder: Has the masks, ``<frame name>.png``. The first and the last
            are not read.
        binary: Whether masks mark one object with 255, as in DAVIS-2016. If
            the ground truth has several, they are scored as one.
        resize: Height and width at which all is scored. None: as it is.
    """

    sequence: str
    frame_names: Sequence[str]
    gt_paths: Sequence[str | None]
    folder: str | os.PathLike[str]
    binary: bool = False
    resize: tuple[int, int] | None = None


@dataclass(frozen=True)
class SequenceScores:
    """The scores of a sequence.

    Attributes:
        sequence: Its name.
        frames: Names of the scored frames: all but the first and the last.
        objects: The scores of objects 1, 2, ...
        ignored_ids: Values in the masks that are no object of the first
            frame; they count as background.
        empty: Whether no mask has an object.
        gt_empty: Whether no ground truth but the first has one.
    """

    sequence: str
    frames: list[str]
    objects: list[ObjectScores]
    ignored_ids: list[int]
    empty: bool = False
    gt_empty: bool = False


def score_masks(files: MaskFiles) -> SequenceScores:
    """Score the masks of a sequence, in files, by the rules of DAVIS-2017.

    The objects are 1 to the highest id in the ground truth of the first
    frame; those that appear later are not scored, and one that is missing
    counts as an object that is never there. The official program ends when a
    mask has another value; here that value, 255 too, counts as background,
    unless masks have 255 only: then they are of the kind of DAVIS-2016.

    Args:
        files: The files. Two frames are in memory at a time.

    Returns:
        The scores.

    Raises:
        MaskError: If a file cannot be read, or masks mark with 255 what is
            no object.
        ValueError: If ground truth is missing, or sizes differ.
    """
    if files.gt_paths[0] is None:
        raise ValueError('the ground truth of the first frame is missing')
    first = read_mask(files.gt_paths[0], keep_void=True)
    first_ids = object_ids(first)
    several = files.binary and not {*first_ids} <= {1, VOID}
    folder = osp.dirname(files.gt_paths[0])
    names = list(files.frame_names[1:-1])
    gt_ids: set[int] = set()
    ids: set[int] = set()

    def read_gt(path: str) -> UInt8Array:
        if several:
            return (read_mask(path) > 0).astype(np.uint8)
        return read_mask(path, files.binary)

    def read_result(path: str) -> UInt8Array:
        return read_mask(path, files.binary, keep_void=True)

    def read(
        paths: Iterable[str],
        read_one: Callable[[str], UInt8Array],
        ids: set[int],
    ) -> Iterator[UInt8Array]:
        for path in paths:
            mask = read_one(path)
            ids.update(object_ids(mask))
            if mask.shape != first.shape:
                raise ValueError(
                    f'{path} is {_size(mask)}, but {files.gt_paths[0]} is '
                    f'{_size(first)}'
                )
            yield resize_nearest(mask, files.resize)

    def gt_paths() -> Iterator[str]:
        for name, path in zip(names, files.gt_paths[1:-1], strict=True):
            if path is None:
                raise ValueError(
                    f'{osp.join(folder, f"{name}.png")} is missing. Without '
                    'ground truth masks can be written (format_only=True), '
                    'but not scored'
                )
            yield path

    num_objects = int(
        resize_nearest(read_gt(files.gt_paths[0]), files.resize).max()
    )
    paths = [osp.join(files.folder, f'{name}.png') for name in names]
    objects = evaluate_sequence(
        read(gt_paths(), read_gt, gt_ids),
        read(paths, read_result, ids),
        num_objects,
    )
    for found, where in (
        (first_ids, files.gt_paths[0]),
        (sorted(ids), f'the masks in {files.folder}'),
    ):
        if found == [VOID] and not files.binary:
            raise MaskError(
                f'{where}: there are no object ids, only 255. If it marks '
                'the object, or all of them: --binary, binary=True'
            )
    ignored = sorted(i for i in ids if i > num_objects)
    return SequenceScores(
        files.sequence, names, objects, ignored, not ids, not gt_ids
    )


def _size(mask: UInt8Array) -> str:
    return f'{mask.shape[1]}x{mask.shape[0]}'


def resize_nearest(
    mask: UInt8Array, size: tuple[int, int] | None
) -> UInt8Array:
    """Resize a mask as OpenCV does with ``INTER_NEAREST``.

    Args:
        mask: (H, W).
        size: Height and width; None leaves the mask as it is.

    Returns:
        The mask, (h, w).
    """
    if size is None or size == mask.shape:
        return mask
    # OpenCV divides by the scale, which is not quite to multiply by the other.
    rows, columns = (
        np.minimum(np.arange(new) * (1 / (new / old)), old - 1).astype(int)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns]


def score_davis(
    results_dir: str | os.PathLike[str],
    davis_root: str | os.PathLike[str],
    split: str = 'val',
    year: str = '2017',
    resolution: str = '480p',
    num_workers: int = 0,
    resize: tuple[int, int] | None = None,
    binary: bool | Literal['auto'] = 'auto',
) -> list[SequenceScores]:
    """Score a folder of masks, such as the published results of others.

    Args:
        results_dir: Has ``<sequence>/<frame name>.png``, as DAVIS wants it.
        davis_root: The folder of :class:`DAVISDataset`.
        split: Name of the list of sequences.
        year: Folder of the list.
        resolution: Folder of frames and masks.
        num_workers: How many processes; 0: this one.
        resize: See :class:`MaskFiles`.
        binary: Likewise; ``'auto'``: where the ground truth is binary.

    Returns:
        The scores of each sequence, in the order of the list.

    Raises:
        FileNotFoundError: If there is no such data set.
        ScoringError: If a sequence cannot be scored.
    """
    dataset = DAVISDataset(
        [],
        davis_root,
        split=split,
        year=year,
        resolution=resolution,
        binary=binary,
        serialize_data=False,
    )
    pool = ScoringPool[SequenceScores](num_workers)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        sequence = info['sequence']
        files = MaskFiles(
            sequence,
            [Path(path).stem for path in info['frame_paths']],
            info['mask_paths'],
            osp.join(results_dir, sequence),
            info['binary_masks'],
            resize,
        )
        pool.submit(sequence, partial(score_masks, files))
    return pool.finish()


def summarize(scores: Iterable[SequenceScores]) -> dict[str, float]:
    """The measures of DAVIS, means over all objects of all sequences.

    An object without a scored frame, in a video of two, is left out.

    Args:
        scores: The sequences.

    Returns:
        ``J&F-Mean``, ``J-Mean``, ``J-Recall``, ``J-Decay``, ``F-Mean``,
        ``F-Recall`` and ``F-Decay``, shares of 1, NaN without an object; and
        ``num_objects`` and ``num_sequences``, those that are in the means.
    """
    rows = [
        [
            object_measures(scored)
            for scored in item.objects
            if len(item.frames)
        ]
        for item in scores
    ]
    table = np.array([row for item in rows for row in item])
    means = table.mean(axis=0) if len(table) else [math.nan] * len(MEASURES)
    return {
        **{name: float(m) for name, m in zip(MEASURES, means, strict=True)},
        'num_objects': len(table),
        'num_sequences': sum(bool(item) for item in rows),
    }


def object_measures(scores: ObjectScores) -> list[float]:
    """The values of ``MEASURES`` for one object."""
    region, boundary = scores.statistics()
    return [(region.mean + boundary.mean) / 2, *region, *boundary]
