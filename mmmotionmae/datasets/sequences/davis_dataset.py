# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import os.path as osp
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from mmaction.registry import DATASETS

from ...utils.errors import MaskError, SequenceError
from ..readers import IMAGE_EXTENSIONS
from .masks import is_binary_mask, object_ids, read_mask
from .sequence_dataset import SequenceDataset, list_files


@DATASETS.register_module()
class DAVISDataset(SequenceDataset):
    """DAVIS-2017, DAVIS-2016, YouTube-VOS, or own data in their layouts.

    The layout of DAVIS (https://davischallenge.org)::

        data_root/
          JPEGImages/480p/<sequence>/00000.jpg ...
          Annotations/480p/<sequence>/00000.png ...
          ImageSets/2017/val.txt

    Without the folder ``480p`` the sequences are looked for one level
    higher, as YouTube-VOS has them (``data_root`` is then its ``train`` or
    ``valid``). Without ``ImageSets`` all sub-folders of ``JPEGImages`` are
    taken, sorted.

    The first frame of a sequence needs a mask; of the others any may be
    without one (DAVIS test-dev, YouTube-VOS). All frames of a folder are
    used, in the order of the numbers in their names.

    A list has a sequence on each line, or, as those of DAVIS-2016, a frame
    and its mask: ``/JPEGImages/480p/blackswan/00000.jpg
    /Annotations/480p/blackswan/00000.png``.

    Adds ``binary_masks`` (bool) to the data infos of the base class, and
    with ``late_objects='inject'``, when a sequence is loaded,
    ``late_masks``: dict {index of a later frame: ids that are new in it}.

    Args:
        pipeline (list[dict]): The transforms.
        data_root (str): The folder of the data set.
        split (str): Name of the list. Defaults to ``'val'``.
        year (str): Folder of the list below ``ImageSets``. Defaults to
            ``'2017'``. For ``'2016'`` the lists may also be in
            ``ImageSets/<resolution>``.
        resolution (str): Defaults to ``'480p'``.
        ann_file (str, optional): A list elsewhere, relative to
            ``data_root``, instead of ``split`` and ``year``.
        late_objects (str): What becomes of objects that are not in the
            first mask. ``'ignore'``: nothing, as in the official evaluation
            of DAVIS. ``'inject'``: they are given where they first appear,
            as in YouTube-VOS. Defaults to ``'ignore'``.
        binary (bool | str): Whether masks mark one object with 255, as in
            DAVIS-2016. Defaults to ``'auto'``: those of a sequence do if its
            first one is not a palette image and has the values 0 and 255
            only.
        **kwargs: As in :class:`SequenceDataset`: ``sequences``, ...

    Raises:
        FileNotFoundError: If the list, a folder, the frames of a sequence or
            its first mask is missing.
        ValueError: For bad arguments.
        SequenceError: For a bad list, or if a mask has no frame.
        MaskError: If the first mask of a sequence cannot be read or, when it
            is loaded, has no objects.
    """

    def __init__(
        self,
        pipeline: list[dict | Callable],
        data_root: str | os.PathLike[str],
        split: str = 'val',
        year: str = '2017',
        resolution: str = '480p',
        ann_file: str | None = None,
        late_objects: Literal['ignore', 'inject'] = 'ignore',
        binary: bool | Literal['auto'] = 'auto',
        **kwargs: Any,
    ) -> None:
        if late_objects not in ('ignore', 'inject'):
            raise ValueError(
                "late_objects must be 'ignore' or 'inject', not "
                f'{late_objects!r}'
            )
        if binary not in ('auto', True, False):
            raise ValueError(
                f"binary must be 'auto', True or False, not {binary!r}"
            )
        self.split = split
        self.year = str(year)
        self.resolution = resolution
        self.late_objects = late_objects
        self.binary = binary
        super().__init__(
            pipeline, data_root, ann_file=ann_file or '', **kwargs
        )

    def list_sequences(self) -> list[str]:
        """Read the list, or list the folders of frames."""
        if self.ann_file:
            return _read_list(self.ann_file)
        lists = osp.join(self.data_root, 'ImageSets')
        if not osp.isdir(lists):
            with os.scandir(self._folder('JPEGImages')) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if entry.is_dir() and entry.name[0] != '.'
                )
        path = osp.join(lists, self.year, f'{self.split}.txt')
        if self.year == '2016' and not osp.isfile(path):
            path = osp.join(lists, self.resolution, f'{self.split}.txt')
        if not osp.isfile(path):
            there = sorted(
                file.relative_to(lists).as_posix()
                for file in Path(lists).rglob('*.txt')
            )
            raise FileNotFoundError(
                f'{path} is missing. {lists} has {there}: choose with `year` '
                'and `split`, or name a list as `ann_file`.'
            )
        return _read_list(path)

    def _folder(self, kind: str) -> str:
        """Folder of the sequences, below ``JPEGImages`` or the like."""
        folder = osp.join(self.data_root, kind)
        if not osp.isdir(folder):
            raise FileNotFoundError(
                f'{folder} is missing; data_root must have JPEGImages and '
                'Annotations.'
            )
        deeper = osp.join(folder, self.resolution)
        return deeper if osp.isdir(deeper) else folder

    def find_sequence(self, sequence: str) -> dict:
        """Find frames and masks, and what the values of the masks mean."""
        images = osp.join(self._folder('JPEGImages'), sequence)
        annotations = osp.join(self._folder('Annotations'), sequence)
        frames = list_files(images, IMAGE_EXTENSIONS)
        masks = list_files(annotations, ('.png',))
        if not frames:
            raise FileNotFoundError(
                f'{sequence!r} has no frames: {images} is missing or empty '
                f'(resolution={self.resolution!r}).'
            )
        if next(iter(frames)) not in masks:
            expected = osp.join(annotations, f'{next(iter(frames))}.png')
            raise FileNotFoundError(
                f'{expected} is missing, the mask of the first frame of '
                f'{sequence!r}.'
            )
        strays = [path for stem, path in masks.items() if stem not in frames]
        if strays:
            raise SequenceError(
                f'{len(strays)} masks have no frame in {images}, such as '
                f'{strays[0]}.'
            )
        mask_paths = [masks.get(stem) for stem in frames]
        binary = self.binary
        if binary == 'auto':
            binary = is_binary_mask(masks[next(iter(frames))])
        return dict(
            frame_paths=list(frames.values()),
            mask_paths=mask_paths,
            binary_masks=binary,
        )

    def prepare_data(self, idx: int) -> dict:
        """Find the objects in the masks, and run the pipeline."""
        info = self.get_data_info(idx)
        inject = self.late_objects == 'inject'
        paths = info['mask_paths'][: None if inject else 1]
        objects = _new_objects(paths, info['binary_masks'])
        if not objects:
            raise MaskError(
                f'{paths[0]} has no objects. If 255 marks one: binary=True.'
            )
        if inject:
            info['late_masks'] = {t: ids for t, ids in objects.items() if t}
        return self.pipeline(info)


def _read_list(path: str) -> list[str]:
    """The sequences of a list of sequences, or of frames and masks."""
    names: list[str] = []
    # Excel's byte order mark would become part of the first name.
    for line in Path(path).read_text(encoding='utf-8-sig').splitlines():
        words = line.split()
        if not words:
            continue
        if words[0].lower().endswith(IMAGE_EXTENSIONS):
            name = osp.basename(osp.dirname(words[0]))
            if names[-1:] != [name]:
                names.append(name)
        else:
            names.append(line.strip())
    return names


def _new_objects(
    paths: list[str | None], binary: bool
) -> dict[int, list[int]]:
    """The ids that are new in a frame, by its index, where there are some."""
    seen: set[int] = set()
    objects = {}
    for t, path in enumerate(paths):
        if path is not None:
            ids = set(object_ids(read_mask(path, binary))) - seen
            if ids:
                objects[t] = sorted(ids)
                seen |= ids
    return objects
