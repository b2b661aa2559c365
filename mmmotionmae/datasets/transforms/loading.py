# Copyright (c) MotionMAE contributors. All rights reserved.
import hashlib
import math
import os
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from ...utils.errors import VideoError
from ...utils.files import complete_file
from ...utils.stores import is_url, stamp_of
from ..readers import (
    FrameFolderReader,
    VideoReader,
    check_decoder,
    open_video,
)


def clip_range(results: dict, num_frames: int, fps: float) -> tuple[int, int]:
    """The frames of a clip: first, and one past the last.

    Frame i is shown at i / ``fps`` seconds; a clip from a start to an end has
    the frames shown from the start on and before the end. Where a time is
    that of a frame but for a hundredth of its duration, it is that frame's.

    Args:
        results: With ``clip_start``, ``clip_end`` (-1: that of the video) and
            ``clip_unit``, ``'frames'`` or ``'seconds'``. Without them, all of
            the video is meant.
        num_frames: Of the video. An end beyond is the video's.
        fps: Frames per second of the video; 0 if it does not tell.

    Raises:
        VideoError: If none of the frames is in the video, or there is no rate
            to count seconds with.
    """
    if 'clip_start' not in results:
        return 0, num_frames
    start, end = results['clip_start'], results['clip_end']
    rate = 1.0
    if results['clip_unit'] == 'seconds':
        rate = fps
        if not fps:
            raise VideoError(
                'its clip is in seconds, but its frames have no times'
            )
    first, last = (math.ceil(time * rate - 0.01) for time in (start, end))
    last = num_frames if end == -1 else min(last, num_frames)
    if not first < last:
        raise VideoError(
            f'no frame is in its clip, from {start:g} to {end:g} '
            f'{results["clip_unit"]}; the video has {num_frames} frames'
        )
    return first, last


@TRANSFORMS.register_module()
class VideoInit(BaseTransform):
    """Open a video file, or a folder of frames, with any decoder.

    Takes the place of ``DecordInit``, ``PyAVInit`` and ``OpenCVInit``, before
    ``SampleFrames``; :class:`VideoDecode` follows it. All decoders give the
    same frames, see :mod:`mmmotionmae.datasets.readers`.

    Required keys: ``filename``; or, for raw frames, ``frame_dir`` and
    optionally ``total_frames``, ``filename_tmpl``, ``offset`` and
    ``start_index``, as MMAction2's ``RawframeDataset`` gives them. Of a clip,
    a part of the video, also ``clip_start``, ``clip_end`` and ``clip_unit``,
    see :func:`clip_range`. Optional: ``backend_args``, see
    :func:`~mmmotionmae.datasets.readers.open_video`.

    Added keys: ``video_reader``; ``total_frames``; ``avg_fps`` (30 where the
    file does not tell); ``start_index``, 0. Of a clip ``total_frames`` is the
    number of its frames, and ``start_index`` the first of them, so that
    ``SampleFrames`` and the like draw from it what they would draw from a
    file that holds no more.

    Args:
        decoder (str): ``'pyav'``, ``'decord'`` or ``'opencv'``.
            Defaults to ``'pyav'``, the fastest.
        min_frames (int): Videos, or clips, with fewer frames are refused.
            Defaults to 1.
        time_limit (float, optional): Seconds that opening and decoding may
            take in all. None: no limit. Defaults to 60.

    Raises:
        VideoError: If the video cannot be read or is too short.
        UsageError: If there is no such decoder.
    """

    honours_clips = True

    def __init__(
        self,
        decoder: str = 'pyav',
        min_frames: int = 1,
        time_limit: float | None = 60.0,
    ) -> None:
        check_decoder(decoder)
        self.decoder = decoder
        self.min_frames = min_frames
        self.time_limit = time_limit

    def transform(self, results: dict) -> dict:
        """Open the video."""
        reader = self._open(results)
        try:
            first, last = clip_range(results, reader.num_frames, reader.fps)
            if last - first < self.min_frames:
                raise VideoError(
                    f'it has {last - first} frames, fewer than '
                    f'min_frames={self.min_frames}'
                )
        except VideoError:
            reader.close()
            raise
        results['video_reader'] = reader
        results['total_frames'] = last - first
        results['avg_fps'] = reader.fps or 30.0
        results['start_index'] = first
        return results

    def _open(self, results: dict) -> VideoReader:
        if 'frame_dir' not in results:
            return open_video(
                results['filename'],
                self.decoder,
                self.time_limit,
                results.get('backend_args'),
            )
        start = results.get('start_index', 1) + results.get('offset', 0)
        return FrameFolderReader(
            results['frame_dir'],
            self.time_limit,
            results.get('filename_tmpl'),
            start,
            results.get('total_frames'),
            results.get('backend_args'),
        )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(decoder={self.decoder!r}, '
            f'min_frames={self.min_frames}, time_limit={self.time_limit})'
        )


@TRANSFORMS.register_module()
class VideoDecode(BaseTransform):
    """Decode the sampled frames, each once, and close the video.

    Required keys: ``video_reader``, ``frame_inds``.

    Added keys: ``imgs``, a list of RGB frames, uint8 (H, W, 3), in the order
    of ``frame_inds``; ``original_shape`` and ``img_shape``, (H, W).

    Raises:
        VideoError: If a frame cannot be decoded.
    """

    def transform(self, results: dict) -> dict:
        """Decode."""
        indices = np.asarray(results['frame_inds']).reshape(-1)
        wanted, positions = np.unique(indices, return_inverse=True)
        with results.pop('video_reader') as reader:
            frames = list(reader.frames(wanted))
        used: set[int] = set()
        imgs = []
        for position in positions.tolist():
            frame = frames[position]
            # Some transforms, such as Flip, work in place.
            imgs.append(frame.copy() if position in used else frame)
            used.add(position)
        results['imgs'] = imgs
        results['original_shape'] = imgs[0].shape[:2]
        results['img_shape'] = imgs[0].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()
class DecodeToMemory(BaseTransform):
    """Decode a whole short video once and keep its frames in memory.

    For small sets of short clips, which would otherwise be decoded again in
    every epoch. It stands in for :class:`VideoInit`; ``ArrayDecode`` then
    takes the place of :class:`VideoDecode`. Each process of the loader has a
    memory of its own. Once it is full, further videos are decoded every time.

    Added keys: ``array`` (T, H, W, 3), uint8, RGB; ``total_frames``;
    ``avg_fps``. Of a clip, see :class:`VideoInit`, its frames.

    Args:
        max_bytes (int): Size of the memory, per process. Defaults to 1 GB.
        decoder (str): As in :class:`VideoInit`. Defaults to ``'pyav'``.
        short_side (int, optional): Resize the frames to this short side, in
            pixels: smaller by averaging over areas, larger bilinearly.
            Defaults to None: not at all.
        cache_dir (str, optional): Keep the frames as .npy files in this
            folder, too, so that other processes and later runs need not
            decode them. A video that has changed is decoded anew. Defaults to
            None.

    Raises:
        VideoError: If the video cannot be read.
        UsageError: If there is no such decoder.
    """

    honours_clips = True

    def __init__(
        self,
        max_bytes: int = 10**9,
        decoder: str = 'pyav',
        short_side: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        check_decoder(decoder)
        self.max_bytes = max_bytes
        self.decoder = decoder
        self.short_side = short_side
        self.cache_dir = cache_dir
        self._used = 0
        self._videos: dict[str, tuple[np.ndarray, float]] = {}

    def transform(self, results: dict) -> dict:
        """Decode ``results['filename']``, or remember it."""
        filename = results['filename']
        if filename not in self._videos:
            video = self._load(filename, results.get('backend_args'))
            if self._used + video[0].nbytes > self.max_bytes:
                return self._add(results, *video)
            self._used += video[0].nbytes
            self._videos[filename] = video
        frames, fps = self._videos[filename]
        return self._add(results, frames, fps, copy=True)

    @staticmethod
    def _add(
        results: dict, frames: np.ndarray, fps: float, copy: bool = False
    ) -> dict:
        first, last = clip_range(results, len(frames), fps)
        frames = frames[first:last]
        if copy:  # some transforms, such as Flip, work in place
            frames = frames.copy()
        results.update(array=frames, total_frames=len(frames), avg_fps=fps)
        return results

    def _load(
        self, filename: str, backend_args: dict | None
    ) -> tuple[np.ndarray, float]:
        if self.cache_dir is None:
            return self._decode(filename, backend_args)
        path = self._cache_file(filename, backend_args)
        with suppress(OSError, EOFError, ValueError, KeyError, BadZipFile):
            with np.load(path) as video:
                return video['frames'], float(video['fps'])
        frames, fps = self._decode(filename, backend_args)
        suffix = f'.{os.getpid()}.tmp'
        with complete_file(path, suffix) as part, open(part, 'wb') as file:
            np.savez(file, frames=frames, fps=fps)
        return frames, fps

    def _cache_file(self, filename: str, backend_args: dict | None) -> Path:
        """By all that the frames depend on."""
        origin = (
            filename if is_url(filename) else os.path.abspath(filename),
            stamp_of(filename, backend_args),
            self.decoder,
            self.short_side,
        )
        name = hashlib.sha256(repr(origin).encode()).hexdigest()[:24]
        return Path(self.cache_dir or '') / f'{name}.npz'

    def _decode(
        self, filename: str, backend_args: dict | None
    ) -> tuple[np.ndarray, float]:
        with open_video(
            filename, self.decoder, backend_args=backend_args
        ) as reader:
            frames = [
                self._scale(frame)
                for frame in reader.frames(range(reader.num_frames))
            ]
            return np.stack(frames), reader.fps

    def _scale(self, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        short = min(height, width)
        if self.short_side is None or short == self.short_side:
            return frame
        factor = self.short_side / short
        return cv2.resize(
            frame,
            (round(width * factor), round(height * factor)),
            interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR,
        )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(max_bytes={self.max_bytes}, '
            f'decoder={self.decoder!r}, short_side={self.short_side}, '
            f'cache_dir={self.cache_dir!r})'
        )
