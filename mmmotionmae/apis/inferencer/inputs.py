# Copyright (c) MotionMAE contributors. All rights reserved.
"""Videos that a user names, and masked clips of them."""

import os
import os.path as osp
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import TRANSFORMS
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from ...datasets.annotation import find_frame_folders, find_videos, kind_of
from ...datasets.readers import READERS
from ...models import ReconstructionTarget
from ...models.utils.tubelet import token_grid
from ...models.utils.vit_features import trained_grid, tubelet_of
from ...utils.choices import MASKS
from ...utils.errors import UsageError, VideoError
from ...utils.stores import is_plain, title_of
from ..features.clips import make_pipeline


@dataclass(frozen=True)
class VideoInput:
    """One video.

    Attributes:
        source: Its path; of an array, which one it is.
        name: For files that are made of it, without extension. It may have
            slashes: videos of sub-folders stay in these.
        kind: ``'file'``, ``'frames'`` (a folder with an image for each
            frame) or ``'array'``.
        listed: Whether it was found in a folder, not named by the user.
        frames: The array, RGB, uint8 (T, H, W, 3); None for paths.
    """

    source: str
    name: str
    kind: str
    listed: bool = False
    frames: npt.NDArray[np.uint8] | None = None


def list_inputs(inputs: Any) -> list[VideoInput]:
    """The videos that a user means.

    Args:
        inputs: One of these, or a list or tuple of them:

            * a video file, also as a URL or a member of a tar shard,
              ``shard.tar@offset@size``;
            * a folder: all videos below it, sorted; if there is none, each
              folder of images in it, itself included, is a video of which
              they are the frames;
            * a uint8 array or tensor (T, H, W, 3), RGB.

    Returns:
        At least one; no two have one name.

    Raises:
        UsageError: If a path does not exist, there is nothing in a folder,
            or something is none of the above.

    Examples:
        >>> clip = np.zeros((8, 32, 32, 3), np.uint8)
        >>> [video.name for video in list_inputs([clip, clip])]
        ['array0', 'array1']
    """
    if not isinstance(inputs, (list, tuple)):
        inputs = [inputs]
    videos = [
        video
        for number, value in enumerate(inputs)
        for video in _list_one(value, number)
    ]
    if not videos:
        raise UsageError('There are no inputs: the list is empty.')
    return _name_apart(videos)


def _list_one(value: Any, number: int) -> list[VideoInput]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return [_array(value, number)]
    if not isinstance(value, (str, os.PathLike)):
        raise UsageError(
            f'Input {number} is a {type(value).__name__}; it must be a video '
            'file, a folder, or a uint8 array or tensor (T, H, W, 3).'
        )
    path = os.fspath(value)
    if not is_plain(path):
        return [VideoInput(path, title_of(path), 'file')]
    if osp.isdir(path):
        return _list_folder(path)
    if not osp.isfile(path):
        raise UsageError(f'There is no video file or folder {path!r}.')
    kind = kind_of(path)
    if kind == 'list':
        raise UsageError(f'{path!r} is a list. Name the videos themselves.')
    if kind == 'picture':
        raise UsageError(
            f'{path!r} is a picture. Name the folder of all frames instead.'
        )
    return [VideoInput(path, title_of(path), 'file')]


def _array(frames: np.ndarray, number: int) -> VideoInput:
    shape = frames.shape
    if (
        frames.dtype != np.uint8
        or frames.ndim != 4
        or shape[-1] != 3
        or not frames.size
    ):
        raise UsageError(
            f'Input {number} is an array of {frames.dtype} {shape}; it must '
            'be uint8 (T, H, W, 3), RGB, with at least one frame.'
        )
    source = f'array {number} of {shape[0]}x{shape[1]}x{shape[2]}'
    return VideoInput(source, f'array{number}', 'array', frames=frames)


def _list_folder(folder: str) -> list[VideoInput]:
    own = osp.basename(osp.abspath(folder)) or 'root'
    try:
        kind, paths = 'file', find_videos(folder)
    except FileNotFoundError as no_videos:
        try:
            kind, paths = 'frames', find_frame_folders(folder)
        except FileNotFoundError:
            raise UsageError(
                f'{str(no_videos)[:-1]}, nor images to be its frames.'
            ) from None
    videos = []
    for path in paths:
        name = osp.splitext(path)[0] if kind == 'file' else path
        if path == '.':
            name = own
        # The folder itself is named, not found, if it is the video.
        videos.append(
            VideoInput(
                osp.normpath(osp.join(folder, path)),
                name,
                kind,
                listed=path != '.',
            )
        )
    return videos


def _name_apart(videos: Sequence[VideoInput]) -> list[VideoInput]:
    """Number the videos that would have the name of another."""
    taken = {video.name for video in videos}
    seen: set[str] = set()
    result = []
    for video in videos:
        name, number = video.name, 2
        if name in seen:
            while f'{name}-{number}' in taken:
                number += 1
            name = f'{name}-{number}'
            taken.add(name)
        seen.add(name)
        result.append(replace(video, name=name))
    return result


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
    """Settings of how clips are taken from a video, and masked.

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
        targets: Those of the model. Defaults to none.

    Raises:
        UsageError: If no token would be masked.
    """

    def __init__(
        self,
        size: ClipSize,
        settings: ClipSettings,
        targets: Sequence[ReconstructionTarget] = (),
    ) -> None:
        self.size, self.settings, self.targets = size, settings, targets
        with DefaultScope.overwrite_default_scope('mmaction'):
            self._of_files = self._compose(arrays=False)
            self._of_arrays = self._compose(arrays=True)

    def _compose(self, arrays: bool) -> Compose:
        size, settings = self.size, self.settings
        fields = [key for target in self.targets for key in target.fields]
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
            *(step for target in self.targets for step in target.transforms),
            dict(
                type='PackActionInputs',
                algorithm_keys=('mask', *fields),
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
