# Copyright (c) MotionMAE contributors. All rights reserved.
"""The videos to encode, from lists, folders, files and arrays."""

import hashlib
import os
import os.path as osp
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets import RobustVideoDataset
from ...datasets.annotation import kind_of
from ...utils.errors import UsageError
from ...utils.stores import is_plain, is_there, join_name


class ClipDataset(RobustVideoDataset):
    """The clips of each video, or the reason why there are none.

    Args:
        pipeline: The transforms.
        infos: Data infos in place of a list or folder.
        arrays: The frames of each, uint8 (T, H, W, 3), for ``ArrayDecode``.
        labels: In place of those of the list.
        **kwargs: As in :class:`RobustVideoDataset`.
    """

    def __init__(
        self,
        pipeline: list[dict | Callable],
        infos: list[dict] | None = None,
        arrays: Sequence[np.ndarray] | None = None,
        labels: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self._infos, self._arrays, self._labels = infos, arrays, labels
        # A long list is shared by all processes; a short one need not be.
        super().__init__(
            pipeline,
            test_mode=True,
            serialize_data=infos is None,
            **kwargs,
        )

    def load_data_list(self) -> Sequence[dict]:
        """Entries that are given, or are in the list or folder."""
        infos: Sequence[dict] | None = self._infos
        if infos is None:
            infos = super().load_data_list()
        if self._labels is None:
            return infos
        _check_labels(self._labels, len(infos))
        return [
            dict(info, label=int(label))
            for info, label in zip(infos, self._labels, strict=True)
        ]

    def get_data_info(self, idx: int) -> dict:
        """With the frames, if they are given."""
        info = super().get_data_info(idx)
        if self._arrays is not None:
            array = self._arrays[idx]
            info.update(array=array, total_frames=len(array))
        return info

    def short_name(self, name: str) -> str:
        """A name without the folder that all are relative to."""
        prefix = self.data_prefix['img' if self.raw_frames else 'video']
        return name.removeprefix(osp.join(prefix, '') if prefix else '')

    def short_names(self) -> list[str]:
        """Names of the videos, as a list has them."""
        names = (self.name_of(idx) for idx in range(len(self)))
        return [self.short_name(name) for name in names]

    def labels(self) -> np.ndarray | None:
        """(N, ), int64; None without labels."""
        infos = (self.get_data_info(idx) for idx in range(len(self)))
        labels = np.array([info['label'] for info in infos], np.int64)
        return None if (labels < 0).any() else labels

    def digest(self) -> str:
        """SHA-256 of names and labels, and of frames that are given."""
        digest = hashlib.sha256()
        if self.raw_frames:
            naming = f'{self.filename_tmpl} {self.start_index}\n'
            digest.update(naming.encode('utf-8', 'replace'))
        for idx, name in enumerate(self.short_names()):
            label = self.get_data_info(idx)['label']
            digest.update(f'{name}\n{label}\n'.encode('utf-8', 'replace'))
        for array in self._arrays or ():
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def __getitem__(self, idx: int) -> dict:
        """Load a video.

        Returns:
            ``name``; ``clips``: uint8 (V, C, T, H, W), V views, or None;
            ``reason``: why there are none, one line.
        """
        sample, failure = self.load(idx)
        return dict(
            name=self.name_of(idx),
            clips=None if failure else sample['inputs'],
            reason=failure.reason if failure else '',
        )


def make_pipeline(
    img_size: int,
    num_frames: int,
    frame_interval: int | None = 4,
    num_clips: int = 1,
    num_crops: int = 1,
    arrays: bool = False,
) -> list[dict | Callable]:
    """Transforms that give the same clips each time.

    As the test pipelines of the configs: clips at equal distances, the short
    side resized, one crop from the centre or three along the long side.

    Args:
        img_size: Height and width of the clips.
        num_frames: Frames of a clip.
        frame_interval: Every how many frames of the video. None: so that a
            clip spans all of it (``UniformSample``).
        num_clips: Clips of a video.
        num_crops: Crops of a clip, 1 or 3.
        arrays: Whether the frames are given, or files are to be decoded.
    """
    views = dict(clip_len=num_frames, num_clips=num_clips, test_mode=True)
    if frame_interval is None:
        sample = dict(type='UniformSample', **views)
    else:
        sample = dict(
            type='SampleFrames',
            frame_interval=frame_interval,
            out_of_bound_opt='repeat_last',
            **views,
        )
    crop = 'CenterCrop' if num_crops == 1 else 'ThreeCrop'
    return [
        *([] if arrays else [dict(type='VideoInit')]),
        sample,
        dict(type='ArrayDecode' if arrays else 'VideoDecode'),
        dict(type='Resize', scale=(-1, img_size)),
        dict(type=crop, crop_size=img_size),
        dict(type='FormatClip', size=img_size),
        dict(type='PackActionInputs'),
    ]


def open_inputs(
    inputs: Any,
    settings: dict[str, Any],
    data_prefix: str | os.PathLike[str] = '',
    labels: Sequence[int] | None = None,
    frames: bool = False,
    **listing: Any,
) -> ClipDataset:
    """Find the videos.

    Args:
        inputs: See :func:`extract_features`.
        settings: Arguments of :func:`make_pipeline`.
        data_prefix: The folder to which the paths of a list are relative.
        labels: One for each video.
        frames: Whether they are folders of raw frames.
        **listing: ``filename_tmpl``, ``columns`` and ``clip_unit``, as in
            :class:`RobustVideoDataset`.

    Raises:
        UsageError: If inputs or labels are not as they should be, or none of
            the videos of a list is there.
        AnnotationError: If a list is not as it should be.
        FileNotFoundError: If there is no such file, or nothing in a folder.
    """
    if isinstance(inputs, np.ndarray):
        inputs = [inputs] if inputs.ndim == 4 else list(inputs)
    kind = 'img' if frames else 'video'
    kwargs: dict[str, Any] = dict(
        data_prefix={kind: os.fspath(data_prefix)}, **listing
    )
    if isinstance(inputs, (str, os.PathLike)):
        path = Path(inputs)
        if not is_plain(os.fspath(inputs)):
            inputs = [inputs]
        elif path.is_dir():
            if data_prefix:
                raise UsageError(
                    f'{str(path)!r} is a folder; data_prefix is for lists.'
                )
            kwargs['data_prefix'] = {kind: str(path)}
        elif not path.exists():
            raise FileNotFoundError(
                f'There is no list, folder or video {str(path)!r}.'
            )
        elif kind_of(str(path)) == 'list':
            kwargs['ann_file'] = str(path)
        else:  # what is no video fails as one
            inputs = [path]
    given = not isinstance(inputs, (str, os.PathLike))
    arrays = None
    if given:
        inputs = list(inputs)
        if not inputs:
            raise UsageError('There is no video to encode.')
        if isinstance(inputs[0], np.ndarray):
            arrays = inputs
            _check_arrays(arrays)
            inputs = [f'array {number}' for number in range(len(inputs))]
        key = 'frame_dir' if frames else 'filename'
        prefix = os.fspath(data_prefix)
        kwargs['infos'] = [
            {key: join_name(prefix, os.fspath(name)), 'label': -1}
            for name in inputs
        ]
    pipeline = make_pipeline(**settings, arrays=arrays is not None)
    dataset = ClipDataset(pipeline, arrays=arrays, labels=labels, **kwargs)
    if arrays is None:
        _check_files(dataset)
    return dataset


def _check_arrays(arrays: Sequence[Any]) -> None:
    for number, array in enumerate(arrays):
        shape: tuple[int, ...] = getattr(array, 'shape', ())
        good = len(shape) == 4 and shape[3] == 3 and shape[0] > 0
        if not good or array.dtype != np.uint8:
            raise UsageError(
                'Videos as arrays are uint8 (T, H, W, 3), RGB; number '
                f'{number} is {getattr(array, "dtype", type(array).__name__)} '
                f'{shape}.'
            )


def _check_labels(labels: Sequence[int], number: int) -> None:
    if len(labels) != number:
        raise UsageError(f'There are {len(labels)} labels, {number} videos.')
    if min(labels) < 0:
        raise UsageError(f'Labels are from 0; one is {min(labels)}.')


def _check_files(dataset: ClipDataset) -> None:
    """Find a wrong data_prefix before all videos are reported as bad."""
    paths = (dataset.path_of(idx) for idx in range(len(dataset)))
    if not any(is_there(path) for path in paths):
        raise UsageError(
            f'None of the {len(dataset)} videos is there; the first would be '
            f'{dataset.path_of(0)!r}. Paths are relative to data_prefix '
            '(--data-prefix).'
        )
