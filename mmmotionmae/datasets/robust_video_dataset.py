# Copyright (c) MotionMAE contributors. All rights reserved.
import os.path as osp
from collections.abc import Callable
from typing import Any

import numpy as np
from mmaction.datasets.base import BaseActionDataset
from mmaction.registry import DATASETS
from mmengine.logging import MMLogger

from ..utils.errors import TooManyBadVideosError, VideoError, VideoTimeoutError
from ..utils.seeding import SampleIndex
from .annotation import (
    find_frame_folders,
    find_videos,
    read_frame_list,
    read_video_list,
    refuse_windows_paths,
)
from .bad_video_list import BadVideos

# These do not write into the frames that they are given, as Flip does. With
# no others, several clips can be made of the same frames without copies.
_KEEP_FRAMES = {
    'CenterCrop',
    'FormatClip',
    'FormatShape',
    'FrameMasking',
    'MultiScaleCrop',
    'PackActionInputs',
    'RandomCrop',
    'RandomMasking',
    'RandomResizedCrop',
    'Resize',
    'TubeMasking',
}


@DATASETS.register_module()
class RobustVideoDataset(BaseActionDataset):
    """Videos of a list or of a folder; a bad one ends no training.

    Takes MMAction2's and VideoMAE's lists (see :func:`read_video_list` and
    :func:`read_frame_list`), or all that is below a folder. Works with any
    pipeline of MMAction2's.

    In training a video that cannot be loaded is replaced by another one. Its
    name and the reason are logged once, whatever the number of workers, and
    kept in ``bad_videos``; :class:`BadVideosHook` writes them to the work
    dir. In test mode nothing is replaced, see ``leave_out``.

    Args:
        pipeline (list[dict]): The transforms.
        ann_file (str): The list. Defaults to ``''``: all videos below the
            folder of ``data_prefix``, without labels.
        data_prefix (dict): ``video``: the folder to which paths are relative;
            or ``img``: likewise, for raw frames.
        delimiter (str, optional): What stands between the parts of a line.
            Defaults to None: white space or a comma.
        filename_tmpl (str): Names of raw frames, if there is a list.
            Defaults to ``'img_{:05}.jpg'``.
        with_offset (bool): Whether lists of raw frames have an offset.
        num_repeats (int): How many clips are made of a video once it is
            decoded, each with its own crop, flip and mask (repeated
            augmentation, https://arxiv.org/abs/1901.09335). Above 1 a sample
            is a list, for ``collate_fn=dict(type='repeat_pseudo_collate')``.
            Defaults to 1.
        max_bad_share (float): Training stops once more than this share of
            the videos is bad. Defaults to 0.5.
        max_refetch (int): How many replacements are tried in a row before
            training stops. Defaults to 100.
        leave_out (bool): What becomes of a bad video in test mode. False: an
            error with its name. True: the next video stands in for it,
            marked as ``left_out`` for :class:`VideoEvaluator`, which drops
            the prediction. Defaults to False.
        start_index (int, optional): Number of the first raw frame. Defaults
            to None: 1 for raw frames, 0 for videos.
        **kwargs: As in MMAction2's ``VideoDataset``; a video has one label,
            so there is no ``multi_class``.

    Raises:
        FileNotFoundError: If the list is missing, or the folder has no video.
        ValueError: If a line of the list is bad, or for arguments that
            contradict each other.
        TooManyBadVideosError: See ``max_bad_share`` and ``max_refetch``.
        RuntimeError: For a bad video in test mode.
    """

    def __init__(
        self,
        pipeline: list[dict | Callable],
        ann_file: str = '',
        data_prefix: dict = dict(video=''),
        delimiter: str | None = None,
        filename_tmpl: str = 'img_{:05}.jpg',
        with_offset: bool = False,
        num_repeats: int = 1,
        max_bad_share: float = 0.5,
        max_refetch: int = 100,
        leave_out: bool = False,
        start_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get('multi_class'):
            raise ValueError(
                'RobustVideoDataset has one label for a video; '
                'for multi_class use VideoDataset.'
            )
        if num_repeats < 1 or (num_repeats > 1 and kwargs.get('test_mode')):
            raise ValueError(
                f'num_repeats must be at least 1, and 1 in test mode; it is '
                f'{num_repeats}.'
            )
        self.raw_frames = 'img' in data_prefix
        self.delimiter = delimiter
        self.filename_tmpl = filename_tmpl
        self.with_offset = with_offset
        self.num_repeats = num_repeats
        self.max_bad_share = max_bad_share
        self.leave_out = leave_out
        self.bad_videos = BadVideos()
        self._hopeless: set[str] = set()
        self._last_failure = ''
        if start_index is None:  # as in MMAction2's data sets
            start_index = 1 if self.raw_frames else 0
        super().__init__(
            ann_file,
            pipeline=pipeline,
            data_prefix=data_prefix,
            max_refetch=max_refetch,
            start_index=start_index,
            **kwargs,
        )
        self._num_shared = self._count_shared()
        later = self.pipeline.transforms[self._num_shared :]
        self._keeps_frames = {type(t).__name__ for t in later} <= _KEEP_FRAMES

    def _count_shared(self) -> int:
        """Number of transforms up to the one that decodes the frames."""
        names = [type(t).__name__ for t in self.pipeline.transforms]
        decoders = [i for i, n in enumerate(names) if n.endswith('Decode')]
        if not decoders and self.num_repeats > 1:
            raise ValueError(
                'num_repeats above 1 needs a transform in the pipeline '
                f'whose name ends in "Decode"; there are {", ".join(names)}.'
            )
        return decoders[-1] + 1 if decoders else 0

    def load_data_list(self) -> list[dict]:
        """Read the list, or the folder."""
        infos = self._list_videos()
        if self.ann_file:
            key = 'frame_dir' if self.raw_frames else 'filename'
            refuse_windows_paths(self.ann_file, [info[key] for info in infos])
        return infos

    def _list_videos(self) -> list[dict]:
        prefix = self.data_prefix['img' if self.raw_frames else 'video']
        if self.raw_frames and self.ann_file:
            return [
                dict(
                    info,
                    frame_dir=osp.join(prefix, info['frame_dir']),
                    filename_tmpl=self.filename_tmpl,
                )
                for info in read_frame_list(
                    self.ann_file, self.delimiter, self.with_offset
                )
            ]
        if self.raw_frames:
            return [
                dict(frame_dir=osp.join(prefix, folder), label=-1)
                for folder in find_frame_folders(prefix or '.')
            ]
        if self.ann_file:
            videos = read_video_list(self.ann_file, self.delimiter)
        else:
            videos = [(name, -1) for name in find_videos(prefix or '.')]
        return [
            dict(filename=osp.join(prefix, path), label=label)
            for path, label in videos
        ]

    def name_of(self, idx: int) -> str:
        """File, or folder of frames, of a sample."""
        info = self.get_data_info(idx)
        return info['frame_dir' if self.raw_frames else 'filename']

    def prepare_data(self, idx: int) -> dict | list[dict]:
        """Decode a video and make ``num_repeats`` clips of it."""
        if self.num_repeats == 1:
            return _run(self.pipeline.transforms, self.get_data_info(idx))
        transforms = self.pipeline.transforms
        decoded = _run(transforms[: self._num_shared], self.get_data_info(idx))
        clips = []
        for left in reversed(range(self.num_repeats)):
            results = dict(decoded)
            if left and not self._keeps_frames:
                results['imgs'] = [img.copy() for img in decoded['imgs']]
            clips.append(_run(transforms[self._num_shared :], results))
        return clips

    def __getitem__(self, idx: int) -> dict | list[dict]:
        """Load the sample, or, in training, another one instead."""
        if not self._fully_initialized:
            self.full_init()
        seed = getattr(idx, 'seed', None)
        for attempt in range(self.max_refetch + 1):
            sample, error = self._try(idx)
            if sample is not None:
                return sample
            if seed is None:
                idx = self._rand_another()
            else:  # as reproducible as the sample itself
                rng = np.random.default_rng((seed, attempt))
                idx = SampleIndex(int(rng.integers(len(self))), seed)
        raise TooManyBadVideosError(
            f'{self.max_refetch + 1} videos in a row cannot be loaded, so '
            f'training stops. The last one: {self._last_failure}'
        ) from error

    def _try(
        self, idx: int
    ) -> tuple[dict | list[dict] | None, Exception | None]:
        """The sample, or what went wrong."""
        name = self.name_of(idx)
        if name in self._hopeless:
            return None, None
        try:
            with self.bad_videos.loading(name):
                sample = self.prepare_data(idx)
            return self._name_clips(sample, idx), None
        except Exception as error:
            failure = error
            reason = str(error).split('\n')[0]
            if not isinstance(error, VideoError):
                reason = f'{type(error).__name__}: {reason}'
            self._last_failure = f'{name!r} cannot be loaded: {reason}'
            if self.test_mode and not self.leave_out:
                raise RuntimeError(self._last_failure) from error
            if isinstance(error, VideoTimeoutError):
                self._hopeless.add(name)  # once is enough
            new = self.bad_videos.add(name, reason)
        if new:
            MMLogger.get_current_instance().warning(
                f'{self._last_failure}. '
                + (
                    'It is left out.'
                    if self.test_mode
                    else 'Another video takes its place.'
                )
            )
        if self.test_mode:
            return self._stand_in(idx), None
        if new:
            self.check_share(self.bad_videos.read(), failure)
        return None, failure

    def _name_clips(
        self, sample: dict | list[dict], idx: int
    ) -> dict | list[dict]:
        """Let data samples say, in training, which clip each is."""
        source = 'frame_dir' if self.raw_frames else 'filename'
        name: dict[str, Any] = {
            source: self.name_of(idx),
            'sample_idx': int(idx),
        }
        if hasattr(idx, 'seed'):
            name['sample_seed'] = idx.seed
        for clip in sample if isinstance(sample, list) else [sample]:
            packed: Any = None
            if isinstance(clip, dict) and not self.test_mode:
                packed = clip.get('data_samples')
            if hasattr(packed, 'set_metainfo'):
                packed.set_metainfo(name)
        return sample

    def check_share(
        self, bad: dict[str, str], cause: Exception | None = None
    ) -> None:
        """Raise an error if there are too many bad videos.

        Args:
            bad: The bad videos, with reasons.
            cause: What went wrong with the last one.

        Raises:
            TooManyBadVideosError: If ``max_bad_share`` is exceeded.
        """
        if len(bad) > self.max_bad_share * len(self):
            name, reason = list(bad.items())[-1]
            raise TooManyBadVideosError(
                f'{len(bad)} of {len(self)} videos cannot be loaded, more '
                f'than max_bad_share={self.max_bad_share:g} allows, so '
                f'training stops. The last one: {name!r}: {reason}'
            ) from cause

    def _stand_in(self, idx: int) -> dict:
        """The next video that can be loaded, marked as no result."""
        steps = range(1, min(len(self), self.max_refetch + 1))
        for step in steps:
            try:
                info = self.get_data_info((idx + step) % len(self))
                sample = _run(self.pipeline.transforms, info)
            except Exception:
                continue  # reported when its own turn comes
            sample['data_samples'].set_metainfo(dict(left_out=True))
            return sample
        raise TooManyBadVideosError(
            f'{self._last_failure}, nor can any of the {len(steps)} videos '
            'after it, so there is nothing to evaluate. Is data_prefix the '
            f'folder to which the paths in {self.ann_file!r} are relative?'
        )


def _run(transforms: list[Callable], results: dict) -> dict:
    for transform in transforms:
        results = transform(results)
        if results is None:  # MMEngine's way to say so
            raise ValueError(f'{type(transform).__name__} returned None')
    return results
