# Copyright (c) MotionMAE contributors. All rights reserved.
import os.path as osp
from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset

from ..utils.errors import AnnotationError, UsageError
from ..utils.stores import find_store, is_url
from .annotation import (
    Columns,
    Layout,
    check_windows_paths,
    find_frame_folders,
    find_videos,
    open_list,
)
from .listed_videos import ListedVideos
from .patient_dataset import PatientDataset


class ListDataset(PatientDataset):
    """Videos of a list, which stays where it is, or of a folder.

    A list of a million videos is opened within milliseconds once its index is
    there, see :func:`open_list`; data infos are made of it one by one.

    Args:
        ann_file (str): The list. ``''``: all videos below the folder.
        data_prefix (dict): ``video``: the folder to which paths are relative;
            or ``img``: likewise, for raw frames.
        delimiter (str, optional): What stands between the parts of a line.
            Defaults to None: white space or a comma.
        filename_tmpl (str): Names of raw frames, if there is a list.
            Defaults to ``'img_{:05}.jpg'``.
        with_offset (bool): Whether lists of raw frames have an offset.
        columns (Sequence[str] | dict[str, str], optional): What stands on a
            line besides the path, see :class:`Layout`: in order, such as
            ``('start', 'end', 'label')``; or, for lists that name their
            columns, what these are called, ``dict(path='clip')``. Defaults to
            None: the usual.
        clip_unit (str, optional): ``'seconds'`` or ``'frames'`` of start and
            end. Defaults to None: seconds if all have a decimal point, frames
            if none has.
        start_index (int, optional): Number of the first raw frame. Defaults
            to None: 1 for raw frames, 0 for videos.
        backend_args (dict, optional): What reaches the files, see
            :func:`~mmmotionmae.datasets.readers.open_video`; for
            :class:`VideoInit`. Defaults to None: the file system, or fsspec
            for URLs.
        **kwargs: As in :class:`PatientDataset`.

    Raises:
        FileNotFoundError: If the list is missing, or the folder has no video.
        AnnotationError: If a line of the list is bad, or a label is not one of
            ``num_classes``.
        UsageError: If arguments contradict each other, or the list has clips
            and the pipeline does not know of such.
    """

    serialize_data: bool

    def __init__(
        self,
        ann_file: str,
        data_prefix: dict,
        delimiter: str | None = None,
        filename_tmpl: str = 'img_{:05}.jpg',
        with_offset: bool = False,
        columns: Columns | None = None,
        clip_unit: str | None = None,
        start_index: int | None = None,
        backend_args: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self.layout = Layout.of(
            'img' in data_prefix,
            delimiter,
            with_offset,
            bool(kwargs.get('multi_class')),
            columns,
            clip_unit,
        )
        self.filename_tmpl = filename_tmpl
        self.backend_args = backend_args
        if backend_args:
            find_store('', backend_args)  # an error now, not after an hour
        if start_index is None:  # as in MMAction2's data sets
            start_index = 1 if 'img' in data_prefix else 0
        super().__init__(
            data_prefix=data_prefix,
            ann_file=ann_file,
            start_index=start_index,
            **kwargs,
        )

    def full_init(self) -> None:
        """Open the list. Its index is shared, and need not be serialised."""
        if self._fully_initialized:
            return
        serialize = self.serialize_data
        self.serialize_data = False
        super().full_init()
        if not isinstance(self.data_list, ListedVideos):
            self.serialize_data = serialize
            if serialize:
                self.data_bytes, self.data_address = self._serialize_data()
        elif self.data_list.has_clips:
            self._check_pipeline()

    def _check_pipeline(self) -> None:
        """Make sure that parts of videos are not taken for all of them."""
        steps = self.pipeline.transforms
        if steps and not any(
            getattr(x, 'honours_clips', False) for x in steps
        ):
            raise UsageError(
                f'{self.ann_file} lists clips, from a start to an end, of '
                'which only VideoInit (with VideoDecode) and DecodeToMemory '
                'know; the pipeline begins with '
                f'{type(steps[0]).__name__}.'
            )

    def load_data_list(self) -> Sequence[dict]:
        """Open the list, or look through the folder."""
        prefix = self.data_prefix['img' if self.raw_frames else 'video']
        if self.ann_file:
            listed = open_list(self.ann_file, self.layout, self.num_classes)
            check_windows_paths(self.ann_file, listed, prefix)
            names = self.filename_tmpl if self.raw_frames else None
            return ListedVideos(listed, prefix, names, self.start_index)
        if is_url(prefix) or self.backend_args:
            raise UsageError(
                f'What is below {prefix!r} is not searched: give an ann_file.'
            )
        if self.num_classes:
            raise AnnotationError(
                f'The videos below {prefix or "."!r} have no labels, but '
                f'num_classes={self.num_classes} needs them: give an ann_file.'
            )
        find = find_frame_folders if self.raw_frames else find_videos
        key = 'frame_dir' if self.raw_frames else 'filename'
        return [
            {key: osp.join(prefix, path), 'label': -1}
            for path in find(prefix or '.')
        ]

    def _get_unserialized_subset(
        self, indices: Sequence[int] | int
    ) -> Sequence[dict]:
        """Data infos at some indices, the first, or the last few."""
        infos = self.data_list
        if isinstance(infos, ListedVideos) and isinstance(indices, Sequence):
            return infos.take(indices)
        return super()._get_unserialized_subset(indices)

    def get_data_info(self, idx: int) -> dict:
        """With what reaches the file, if that is given."""
        info = super().get_data_info(idx)
        if self.backend_args:
            info['backend_args'] = self.backend_args
        return info

    def path_of(self, idx: int) -> str:
        """File, or folder of frames, of a sample."""
        info = BaseDataset.get_data_info(self, idx)
        return info['frame_dir' if self.raw_frames else 'filename']

    def name_of(self, idx: int) -> str:
        """File, or folder of frames; of a clip with ``#t=start,end``.

        Frames are ``#frames=start,end``; so are those of a folder that a list
        names with an offset, counted from its first.
        """
        info = BaseDataset.get_data_info(self, idx)
        path = info['frame_dir' if self.raw_frames else 'filename']
        if 'offset' in info:
            first, total = info['offset'], info.get('total_frames')
            path += f'#frames={first},{"" if total is None else first + total}'
        if 'clip_start' not in info:
            return path
        unit = 't' if info['clip_unit'] == 'seconds' else 'frames'
        end = info['clip_end']
        last = '' if end == -1 else f'{end:.10g}'
        return f'{path}#{unit}={info["clip_start"]:.10g},{last}'

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of a video, for ``ClassBalancedDataset``.

        Raises:
            AnnotationError: If it has none.
        """
        infos = self.data_list
        if isinstance(infos, ListedVideos):
            label = infos.label_of(idx)
        else:
            label = BaseDataset.get_data_info(self, idx)['label']
        if label == -1:
            raise AnnotationError(
                f'{self.name_of(idx)!r} has no label, so that classes cannot '
                'be balanced.'
            )
        return label if self.multi_class else [label]
