# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Callable
from typing import Any

import numpy as np
from mmaction.registry import DATASETS

from ..utils.errors import (
    TooManyBadVideosError,
    UsageError,
    VideoTimeoutError,
)
from ..utils.seeding import SampleIndex, with_seed_of
from .failures import run
from .list_dataset import ListDataset

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
class RobustVideoDataset(ListDataset):
    """Videos of a list or of a folder; a bad one ends no training.

    Takes lists of any form (``docs/user_guides/lists.md``), MMAction2's and
    VideoMAE's among them, or all that is below a folder. Works with any
    pipeline of MMAction2's; for clips, parts of a video that a list names, it
    opens the video with :class:`VideoInit`.

    In training a video that cannot be loaded is replaced by another one. Its
    name and the reason are logged once, whatever the number of workers, and
    kept in ``bad_videos``; :class:`BadVideosHook` writes them to the work
    dir. In test mode nothing is replaced, see ``leave_out``. Where the disk or
    the network fails, a video is tried again before that, see
    ``storage_delays``; and an error of the pipeline ends the run at once,
    without a bad video: one that cannot be a video's, or that other videos
    meet, too, before any has come through.

    Args:
        pipeline (list[dict]): The transforms.
        ann_file (str): The list. Defaults to ``''``: all videos below the
            folder of ``data_prefix``, without labels.
        data_prefix (dict): ``video``: the folder to which paths are relative,
            also a URL; or ``img``: likewise, for raw frames. Paths of a list
            may be URLs themselves, or members of tar shards,
            ``shard.tar@offset@size``.
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
        **kwargs: ``columns``, ``clip_unit`` and ``backend_args``, see
            :class:`ListDataset`; ``storage_delays`` and ``sleep``, see
            :class:`PatientDataset`; others as in MMAction2's
            ``VideoDataset``. With ``num_classes`` all
            labels are checked: from 0, and one for each video. With
            ``multi_class`` a line may have any number of them, and a sample
            has a vector of ``num_classes`` zeros and ones.

    Raises:
        FileNotFoundError: If the list is missing, or the folder has no video.
        AnnotationError: If a line of the list is bad, or a label is not one of
            ``num_classes``.
        ValueError: For arguments that contradict each other.
        TooManyBadVideosError: See ``max_bad_share`` and ``max_refetch``; in
            test mode for a bad video.
        PipelineError: If the pipeline fails, whatever the video.
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
        if kwargs.get('multi_class') and not kwargs.get('num_classes'):
            raise UsageError('multi_class needs num_classes.')
        if num_repeats < 1 or (num_repeats > 1 and kwargs.get('test_mode')):
            raise ValueError(
                f'num_repeats must be at least 1, and 1 in test mode; it is '
                f'{num_repeats}.'
            )
        self.num_repeats = num_repeats
        self.max_bad_share = max_bad_share
        self.leave_out = leave_out
        self._hopeless: set[str] = set()
        self._last_failure = ''
        super().__init__(
            ann_file=ann_file,
            pipeline=pipeline,
            data_prefix=data_prefix,
            delimiter=delimiter,
            filename_tmpl=filename_tmpl,
            with_offset=with_offset,
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

    def prepare_data(self, idx: int) -> dict | list[dict]:
        """Decode a video and make ``num_repeats`` clips of it."""
        if self.num_repeats == 1:
            return run(self.pipeline.transforms, self.get_data_info(idx))
        transforms = self.pipeline.transforms
        decoded = run(transforms[: self._num_shared], self.get_data_info(idx))
        clips = []
        for left in reversed(range(self.num_repeats)):
            results = dict(decoded)
            if left and not self._keeps_frames:
                results['imgs'] = [img.copy() for img in decoded['imgs']]
            clips.append(run(transforms[self._num_shared :], results))
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

    def _try(self, idx: int) -> tuple[Any, Exception | None]:
        """The sample, or what went wrong."""
        name = self.name_of(idx)
        if name in self._hopeless:
            return self._stand_in(idx) if self.test_mode else None, None
        sample, failure = self.load(idx)
        if failure is None:
            return self._name_clips(sample, idx), None
        self._last_failure = f'{name!r} cannot be loaded: {failure.reason}'
        if self.test_mode and not self.leave_out:
            raise TooManyBadVideosError(self._last_failure) from failure.error
        if isinstance(failure.error, VideoTimeoutError):
            self._hopeless.add(name)  # it has cost enough
        new = self.bad_videos.add(name, failure.reason)
        if new:
            self.warn(
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
            self.check_share(self.bad_videos.read(), failure.error)
        return None, failure.error

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
            other = with_seed_of(idx, (idx + step) % len(self))
            sample, failure = self._attempt(other)
            if failure is None:  # else reported when its own turn comes
                sample['data_samples'].set_metainfo(dict(left_out=True))
                return sample
        others = f', nor can any of the {len(steps)} videos after it'
        raise TooManyBadVideosError(
            f'{self._last_failure}{others if steps else ", the only one"}, so '
            'there is nothing to evaluate. Is data_prefix the '
            f'folder to which the paths in {self.ann_file!r} are relative?'
        )
