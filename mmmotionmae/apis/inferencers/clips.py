# Copyright (c) MotionMAE contributors. All rights reserved.
"""From videos to masked clips, through the transforms of the pipelines."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import TRANSFORMS
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from ...datasets.readers import READERS
from ...models.utils.tubelet import token_grid
from ...models.utils.vit_features import trained_grid, tubelet_of
from ...utils.errors import UsageError, VideoError
from ..features.inputs import make_pipeline
from .inputs import VideoInput

MASKS = dict(tube='TubeMasking', random='RandomMasking', frame='FrameMasking')


class ClipSize(NamedTuple):
    """The clips that an encoder takes.

    Attributes:
        num_frames: Frames of a clip.
        img_size: Height and width of a frame, in pixels.
        tubelet_size: Frames of a tubelet.
        patch_size: Height and width of a tubelet, in pixels.
    """

    num_frames: int
    img_size: int
    tubelet_size: int
    patch_size: int


def clip_size_of(encoder: VisionTransformer) -> ClipSize:
    """The clips that an encoder was built for."""
    t, h, _ = trained_grid(encoder)
    tubelet_size, patch_size = tubelet_of(encoder)
    return ClipSize(t * tubelet_size, h * patch_size, tubelet_size, patch_size)


@dataclass(frozen=True)
class ClipSettings:
    """How clips are taken from a video, and masked.

    Attributes:
        num_clips: 1: the clip in the middle; more: evenly spread over the
            video, from its start to its end.
        frame_interval: Distance of adjacent frames of a clip, in frames of
            the video. A video that is too short starts again, as in training.
        mask: ``'tube'``, ``'random'`` or ``'frame'``, see
            :mod:`mmmotionmae.datasets.transforms.masking`. None: no mask.
        mask_ratio: Share of masked tokens, in (0, 1).
        seed: Of the masks. A video gets the same ones alone and among others.
        decoder: ``'pyav'``, ``'decord'`` or ``'opencv'``.

    Raises:
        UsageError: If one of them is out of range.
    """

    num_clips: int = 1
    frame_interval: int = 4
    mask: str | None = 'tube'
    mask_ratio: float = 0.9
    seed: int = 0
    decoder: str = 'pyav'

    def __post_init__(self) -> None:
        for name in ('num_clips', 'frame_interval'):
            if getattr(self, name) < 1:
                raise UsageError(
                    f'{name} must be at least 1, not {getattr(self, name)}.'
                )
        if self.mask is not None and self.mask not in MASKS:
            raise UsageError(
                f'mask must be one of {", ".join(MASKS)}, not {self.mask!r}.'
            )
        if not 0 <= self.seed < 2**32:
            raise UsageError(
                f'seed must be from 0 to 2**32 - 1, not {self.seed}.'
            )
        if self.decoder not in READERS:
            raise UsageError(
                f'decoder must be one of {", ".join(READERS)}, not '
                f'{self.decoder!r}.'
            )


class ClipLoader:
    """Makes of a video what a data set would yield.

    Args:
        size: Of the clips.
        settings: See there.

    Raises:
        UsageError: If no token would be masked.
    """

    def __init__(self, size: ClipSize, settings: ClipSettings) -> None:
        self.size, self.settings = size, settings
        with DefaultScope.overwrite_default_scope('mmaction'):
            self._of_files = self._compose(arrays=False)
            self._of_arrays = self._compose(arrays=True)

    def _compose(self, arrays: bool) -> Compose:
        size, settings = self.size, self.settings
        pipeline = make_pipeline(
            size.img_size,
            size.num_frames,
            settings.frame_interval,
            settings.num_clips,
            arrays=arrays,
        )
        if not arrays:
            pipeline[0] = dict(type='VideoInit', decoder=settings.decoder)
        # In the place of the last, which packs no masks.
        pipeline[-1:] = [
            *([] if settings.mask is None else [_masking(size, settings)]),
            dict(
                type='PackActionInputs',
                algorithm_keys=('mask',),
                meta_keys=('name', 'source', 'frame_inds'),
            ),
        ]
        return Compose(pipeline)

    def __call__(self, video: VideoInput) -> dict[str, Any]:
        """Read the clips of a video and draw their masks.

        Returns:
            ``inputs``, uint8 (N, C, T, H, W), and ``data_samples``, with the
            ``mask`` (N, L) and, as meta information, ``name``, ``source`` and
            ``frame_inds`` (N, T).

        Raises:
            UsageError: If the video cannot be read; it names the video.
        """
        info: dict[str, Any] = dict(
            name=video.name, source=video.source, start_index=0, modality='RGB'
        )
        load = self._of_files
        if video.frames is not None:
            info.update(array=video.frames, total_frames=len(video.frames))
            load = self._of_arrays
        elif video.kind == 'frames':
            info['frame_dir'] = video.source
        else:
            info['filename'] = video.source
        try:
            with _seeded(self.settings.seed):
                sample = load(info)
        except (VideoError, OSError) as error:
            raise UsageError(
                f'{video.source!r} cannot be read: {error}.'
            ) from error
        meta = sample['data_samples']
        indices = meta.frame_inds.reshape(self.settings.num_clips, -1)
        meta.set_metainfo(dict(frame_inds=indices.tolist()))
        return sample


def _masking(size: ClipSize, settings: ClipSettings) -> dict[str, Any]:
    """The config of the masking transform, tried out on one clip."""
    tubelet = dict(tubelet_size=size.tubelet_size, patch_size=size.patch_size)
    config = dict(
        type=MASKS[settings.mask or ''],
        mask_ratio=settings.mask_ratio,
        **tubelet,
    )
    grid = token_grid(size.num_frames, size.img_size, size.img_size, **tubelet)
    try:
        with _seeded(0):
            TRANSFORMS.build(config).sample(grid)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return config


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw NumPy's random numbers from a seed, and go on as before then."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
