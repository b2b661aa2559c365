# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import os.path as osp
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmaction.registry import DATASETS

from ...utils.errors import SequenceError
from ..readers import IMAGE_EXTENSIONS
from .sequence_dataset import SequenceDataset, list_files


@DATASETS.register_module()
class VIPDataset(SequenceDataset):
    """VIP, people with a mask of their parts (Video Instance-level Parsing).

    The layout of ``VIP_Fine`` (https://github.com/HCPLab-SYSU/ATEN)::

        data_root/
          Images/videos1/000000000001.jpg ...
          Annotations/Category_ids/videos1/000000000001.png ...
          lists/val_videos.txt

    ``Category_ids`` may also be in ``data_root`` itself. ``Images`` holds the
    annotated frames only, one of every 25 of a video.

    The value of a pixel is one of 20 categories, see ``METAINFO``. They are
    the same in all videos, and propagated as objects are in DAVIS.

    A list has a video on each line; of a line with several columns, as in the
    lists of https://github.com/alexandre-eymael/CropMAE, the first counts, and
    of a path the last part.

    Adds ``binary_masks`` (False) to the data infos of the base class.

    Args:
        pipeline (list[dict]): The transforms.
        data_root (str): The folder of the data set.
        ann_file (str): The list, relative to ``data_root``. Defaults to
            ``'lists/val_videos.txt'``.
        **kwargs: As in :class:`SequenceDataset`: ``sequences``, ...

    Raises:
        FileNotFoundError: If the list or the frames of a video are missing.
        SequenceError: If a frame has no mask, or a mask no frame.
    """

    METAINFO = dict(
        # As the owners' code loads them (their script that scores names some
        # otherwise); no mean over categories depends on it.
        classes=(
            'background',
            'hat',
            'hair',
            'gloves',
            'sun-glasses',
            'upper-clothes',
            'dress',
            'coat',
            'socks',
            'pants',
            'torso-skin',
            'scarf',
            'skirt',
            'face',
            'left-arm',
            'right-arm',
            'left-leg',
            'right-leg',
            'left-shoe',
            'right-shoe',
        )
    )

    def __init__(
        self,
        pipeline: list[dict | Callable],
        data_root: str | os.PathLike[str],
        ann_file: str = 'lists/val_videos.txt',
        **kwargs: Any,
    ) -> None:
        super().__init__(pipeline, data_root, ann_file=ann_file, **kwargs)

    def list_sequences(self) -> list[str]:
        """Read the list."""
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'{self.ann_file} is missing, the list of videos: name '
                'another one as `ann_file`.'
            )
        lines = Path(self.ann_file).read_text(encoding='utf-8-sig')
        rows = (line.split() for line in lines.splitlines())
        return [osp.basename(row[0].rstrip('/')) for row in rows if row]

    def find_sequence(self, sequence: str) -> dict:
        """Find frames and masks."""
        images = osp.join(self.data_root, 'Images', sequence)
        categories = osp.join(self.data_root, 'Annotations', 'Category_ids')
        if not osp.isdir(categories):
            categories = osp.join(self.data_root, 'Category_ids')
        annotations = osp.join(categories, sequence)
        frames = list_files(images, IMAGE_EXTENSIONS)
        masks = list_files(annotations, ('.png',))
        if not frames:
            raise FileNotFoundError(
                f'{sequence!r} has no frames: {images} is missing or empty.'
            )
        alone = sorted(frames.keys() ^ masks.keys())
        if alone:
            raise SequenceError(
                f'{images} and {annotations} do not belong together: '
                f'{len(alone)} frames or masks are without the other, such as '
                f'{alone[0]}. Images must hold the annotated frames only.'
            )
        return dict(
            frame_paths=list(frames.values()),
            mask_paths=[masks[stem] for stem in frames],
            binary_masks=False,
        )
