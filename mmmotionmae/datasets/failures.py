# Copyright (c) MotionMAE contributors. All rights reserved.
"""Causes of failure to load a sample: video, storage or pipeline."""

import os.path as osp
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import cv2

from ..utils.errors import (
    MMMotionMAEError,
    PipelineError,
    StorageError,
    VideoError,
    VideoTimeoutError,
)
from ..utils.storage import (
    find_storage_error,
    is_storage_error,
    is_system_error,
)

# Whatever the video is, it is not the reason for these.
_NEVER_THE_VIDEO = (
    ImportError,
    NameError,
    NotImplementedError,
    SyntaxError,
)
# What MMAction2's own ...Init and ...Decode let through of their decoders;
# decord's error is no more than an `Exception`.
_OF_DECODERS = (RuntimeError, AssertionError, av.FFmpegError, cv2.error)
_DECORD_ERROR = 'DECORDError'


@dataclass(frozen=True)
class Failure:
    """A sample that cannot be loaded.

    Attributes:
        kind: ``'video'``: it is broken, or missing. ``'storage'``: the disk or
            the network fails. ``'pipeline'``: a transform fails on what was
            read, and only other videos can tell whether this one is odd.
        reason: One line, for ``bad_videos.txt``: of the latter two kinds it
            begins with the kind.
        error: What was raised.
        transform: Name of the transform that failed; ``''`` if none did.
    """

    kind: str
    reason: str
    error: Exception
    transform: str = ''


def run(transforms: list[Callable], results: dict) -> dict:
    """Apply transforms one after the other.

    Raises:
        ValueError: If one returns None, MMEngine's way to ask for another
            sample.
    """
    for transform in transforms:
        results = transform(results)
        if results is None:
            raise ValueError('it returned None')
    return results


def diagnose(error: Exception, path: str, again: bool = False) -> Failure:
    """Tell why a sample cannot be loaded.

    Args:
        error: What :func:`run` raised.
        path: The video, or folder of frames.
        again: Whether this is not the first try.

    Raises:
        PipelineError: If it cannot be the video.
    """
    name = type(_transform_in(error)).__name__
    name = '' if name == 'NoneType' else name
    chain = list(_causes(error))
    if any(is_system_error(cause) for cause in chain):
        raise make_pipeline_error(Failure('', '', error, name), path)
    if isinstance(error, _NEVER_THE_VIDEO) or (
        isinstance(error, MMMotionMAEError)
        and not isinstance(error, VideoError)
    ):
        raise make_pipeline_error(Failure('', '', error, name), path)
    found = _find_storage_error(error, chain, path, again)
    if found is not None:
        reason = getattr(found, 'strerror', None) or str(found)
        reason = f'storage: {reason[:1].lower()}{reason[1:]}'
        return Failure('storage', reason, error, name)
    if _is_of_video(error, name, path):
        return Failure('video', describe(error), error, name)
    reason = f'pipeline: {name}: {describe(error)}'
    return Failure('pipeline', reason, error, name)


def describe(error: BaseException) -> str:
    """Describe an error in one line; those of others with their type."""
    reason = ' '.join(str(error).split('\n')[0].split())
    if isinstance(error, MMMotionMAEError):
        return reason
    return f'{type(error).__name__}: {reason}'


def make_pipeline_error(failure: Failure, path: str) -> PipelineError:
    """The error that ends the run, with the place in the code."""
    error = failure.error
    text = f'{failure.transform or "The pipeline"} fails, whatever the video'
    text += f' (the last one: {path!r}): {describe(error)}'
    if isinstance(error, MMMotionMAEError):
        return PipelineError(text)
    frames = traceback.extract_tb(error.__traceback__)
    place = f' ({frames[-1].filename}, line {frames[-1].lineno})'
    return PipelineError(text + place if frames else text)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _transform_in(error: BaseException) -> Any:
    """The transform that an error came out of; None if it was none."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is run.__code__:
            found = frame.f_locals.get('transform')
    return found


def _find_storage_error(
    error: Exception, chain: list[BaseException], path: str, again: bool
) -> BaseException | None:
    for cause in chain:
        if isinstance(cause, StorageError):
            return cause
        # FFmpeg says so of broken files, too.
        by_ffmpeg = isinstance(cause, av.FFmpegError)
        if is_storage_error(cause) and not (by_ffmpeg and again):
            return cause
    if isinstance(error, VideoTimeoutError):
        return None  # it would not be quicker
    return find_storage_error(path)


def _is_of_video(error: Exception, transform: str, path: str) -> bool:
    if isinstance(error, VideoError):
        return True
    if isinstance(error, OSError):
        file = error.filename
        return not file or osp.abspath(file).startswith(osp.abspath(path))
    reads = transform.endswith(('Init', 'Decode'))
    decoder = isinstance(error, _OF_DECODERS)
    return reads and (decoder or type(error).__name__ == _DECORD_ERROR)
