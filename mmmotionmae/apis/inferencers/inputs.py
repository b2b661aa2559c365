# Copyright (c) MotionMAE contributors. All rights reserved.
"""From what a user names to a list of videos."""

import os
import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...datasets.annotation import find_frame_folders, find_videos
from ...datasets.readers import IMAGE_EXTENSIONS
from ...utils.errors import UsageError


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

            * a video file;
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
    if osp.isdir(path):
        return _list_folder(path)
    if not osp.isfile(path):
        raise UsageError(f'There is no video file or folder {path!r}.')
    if path.lower().endswith(IMAGE_EXTENSIONS):
        raise UsageError(
            f'{path!r} is a picture. Name the folder that holds the frames '
            'of the video instead.'
        )
    name = osp.splitext(osp.basename(path))[0]
    return [VideoInput(path, name, 'file')]


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
