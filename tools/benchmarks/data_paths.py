# Copyright (c) MotionMAE contributors. All rights reserved.
"""Data paths: that of stock MMAction2, and ours."""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmaction.registry import DATASETS
from mmengine.registry import FUNCTIONS

from mmmotionmae.apis import UsageError
from mmmotionmae.utils.errors import TooManyBadVideosError

from .clips import Source
from .common import Clock
from .data_stores import Place

STAGES = ('open', 'decode', 'transform', 'collate')


@dataclass(frozen=True)
class Reading:
    """Which frames are read, and how large clips become.

    Attributes:
        clip_len: Frames of a clip.
        frame_interval: From one frame of a clip to the next.
        size: Side of the clips, in pixels.
    """

    clip_len: int = 16
    frame_interval: int = 4
    size: int = 224

    @property
    def sampling(self) -> dict:
        """The transform that draws the frames."""
        return dict(
            type='SampleFrames',
            clip_len=self.clip_len,
            frame_interval=self.frame_interval,
            num_clips=1,
        )


@dataclass(frozen=True)
class Draw:
    """One sample: which video, and the seed of all that is random in it."""

    index: int
    seed: int

    def seed_everything(self) -> None:
        """Make the next sample the one that this draw stands for."""
        random.seed(self.seed)
        np.random.seed(self.seed)
        torch.manual_seed(self.seed)


@dataclass
class DataPath:
    """A data set with its pipeline, and what joins samples to a batch.

    Attributes:
        name: For the table.
        dataset: Its samples are dicts, or, with repeats, lists of dicts.
        repeats: Clips in a sample.
        collate: Joins samples.
        clock: Tells the time.
        local: Name of the same path on plain files, if this one is not.
        seconds: Time spent in each stage of the last batch.
    """

    name: str
    dataset: Any
    repeats: int
    collate: Callable[[list], Any]
    clock: Clock = time.perf_counter
    local: str = ''
    seconds: dict[str, float] = field(
        default_factory=lambda: defaultdict(float)
    )

    def __post_init__(self) -> None:
        transforms = self.dataset.pipeline.transforms
        for number, transform in enumerate(transforms):
            name = type(transform).__name__
            for ending, stage in (('Init', 'open'), ('Decode', 'decode')):
                if name.endswith(ending):
                    transforms[number] = self._timed(transform, stage)

    def _timed(self, transform: Callable, stage: str) -> Callable:
        def call(results: dict) -> dict:
            start = self.clock()
            results = transform(results)
            self.seconds[stage] += self.clock() - start
            return results

        return call

    def load(self, draw: Draw) -> Any:
        """The sample of a draw.

        Raises:
            UsageError: If no video can be read.
        """
        draw.seed_everything()
        start = self.clock()
        try:
            return self.dataset[draw.index]
        except TooManyBadVideosError as error:
            raise UsageError(str(error)) from error
        finally:
            self.seconds['loading'] += self.clock() - start

    def first_clip(self, draw: Draw) -> dict:
        """The sample of a draw; with repeats, the first clip of it."""
        sample = self.load(draw)
        self.check()
        return sample[0] if self.repeats > 1 else sample

    def time(self, draws: Sequence[Draw]) -> dict[str, float]:
        """Load a batch.

        Returns:
            Milliseconds per clip, for each stage and ``'total'``.
            ``'transform'`` is all that is neither opening nor decoding, such
            as copies for repeats.
        """
        self.seconds.clear()
        samples = [self.load(draw) for draw in draws]
        start = self.clock()
        self.collate(samples)
        collating = self.clock() - start
        self.check()
        loading = self.seconds['loading']
        opening, decoding = self.seconds['open'], self.seconds['decode']
        seconds = dict(
            open=opening,
            decode=decoding,
            transform=loading - opening - decoding,
            collate=collating,
            total=loading + collating,
        )
        clips = len(draws) * self.repeats
        return {stage: s * 1e3 / clips for stage, s in seconds.items()}

    def check(self) -> None:
        """Raise an error if a video was bad, and so another one was read.

        Raises:
            UsageError: With its name.
        """
        bad = getattr(self.dataset, 'bad_videos', None)
        for name, reason in (bad.read() if bad else {}).items():
            raise UsageError(
                f'{name!r} cannot be read: {reason}. Leave it out.'
            )


def _pipeline(reading: Reading, before: list, decode: dict, end: list) -> list:
    crop = dict(
        type='MultiScaleCrop',
        input_size=reading.size,
        scales=(1, 0.875, 0.75, 0.66),
        max_wh_scale_gap=1,
        random_crop=False,
        num_fixed_crops=13,
    )
    pack = dict(type='PackActionInputs', algorithm_keys=('mask',))
    return [
        *before,
        reading.sampling,
        decode,
        crop,
        *end,
        dict(type='TubeMasking'),
        pack,
    ]


def stock_path(
    source: Source, reading: Reading, clock: Clock = time.perf_counter
) -> DataPath:
    """What MMAction2 comes with; only the mask is ours."""
    size = (reading.size, reading.size)
    end = [
        dict(type='Resize', scale=size, keep_ratio=False),
        dict(type='FormatShape', input_format='NCTHW'),
    ]
    if source.raw_frames:
        before, decode = [], dict(type='RawFrameDecode')
    else:
        before = [dict(type='DecordInit', num_threads=1)]
        decode = dict(type='DecordDecode')
    dataset = dict(
        type='RawframeDataset' if source.raw_frames else 'VideoDataset',
        ann_file=source.ann_file,
        data_prefix=_prefix(source),
        pipeline=_pipeline(reading, before, decode, end),
    )
    collate = FUNCTIONS.get('pseudo_collate')
    return DataPath(
        'stock MMAction2', DATASETS.build(dataset), 1, collate, clock
    )


def our_path(
    source: Source,
    reading: Reading,
    decoder: str,
    repeats: int,
    clock: Clock = time.perf_counter,
    place: Place | None = None,
) -> DataPath:
    """`RobustVideoDataset` with `VideoInit`, `VideoDecode`, `FormatClip`.

    Args:
        source: What is read.
        reading: Which frames of it.
        decoder: Of :class:`VideoInit`.
        repeats: Clips of a video.
        clock: Tells the time.
        place: Where the videos are. None: in plain files.
    """
    pipeline = _pipeline(
        reading,
        [dict(type='VideoInit', decoder=decoder)],
        dict(type='VideoDecode'),
        [dict(type='FormatClip', size=reading.size)],
    )
    dataset = dict(
        type='RobustVideoDataset',
        ann_file=place.ann_file if place else source.ann_file,
        data_prefix=dict(video=place.prefix) if place else _prefix(source),
        pipeline=pipeline,
        num_repeats=repeats,
    )
    repeat = 'repeat_' if repeats > 1 else ''
    name = 'raw frames' if source.raw_frames else decoder
    name = f'ours, {name}, R = {repeats}'
    return DataPath(
        f'{name}, {place.name}' if place else name,
        DATASETS.build(dataset),
        repeats,
        FUNCTIONS.get(f'{repeat}pseudo_collate'),
        clock,
        name if place else '',
    )


def _prefix(source: Source) -> dict:
    return {'img' if source.raw_frames else 'video': str(source.folder)}


def compare(stock: DataPath, ours: DataPath, draws: Sequence[Draw]) -> str:
    """Compare clips and masks of the same draws, bit for bit.

    Returns:
        How they differ; nothing if they do not.
    """
    largest, different = 0.0, 0
    for draw in draws:
        one, other = stock.first_clip(draw), ours.first_clip(draw)
        clips = one['inputs'], other['inputs']
        masks = one['data_samples'].mask, other['data_samples'].mask
        if torch.equal(*clips) and torch.equal(*masks):
            continue
        different += 1
        if clips[0].shape == clips[1].shape:
            step = (clips[0].int() - clips[1].int()).abs().max()
            largest = max(largest, float(step))
    if not different:
        return ''
    return (
        f'{ours.name}: {different} of {len(draws)} samples differ from '
        f'{stock.name}, by up to {largest:g} grey levels'
    )
