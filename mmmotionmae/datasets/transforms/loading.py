# Copyright (c) MotionMAE contributors. All rights reserved.
import hashlib
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


@TRANSFORMS.register_module()
class VideoInit(BaseTransform):
    """Open a video file, or a folder of frames, with any decoder.

    Takes the place of ``DecordInit``, ``PyAVInit`` and ``OpenCVInit``, before
    ``SampleFrames``; :class:`VideoDecode` follows it. All decoders give the
    same frames, see :mod:`mmmotionmae.datasets.readers`.

    Required keys: ``filename``; or, for raw frames, ``frame_dir`` and
    optionally ``total_frames``, ``filename_tmpl``, ``offset`` and
    ``start_index``, as MMAction2's ``RawframeDataset`` gives them. Optional:
    ``backend_args``, see :func:`~mmmotionmae.datasets.readers.open_video`.

    Added keys: ``video_reader``; ``total_frames``; ``avg_fps`` (30 where the
    file does not tell); ``start_index``, 0.

    Args:
        decoder (str): ``'pyav'``, ``'decord'`` or ``'opencv'``.
            Defaults to ``'pyav'``, the fastest.
        min_frames (int): Videos with fewer frames are refused.
            Defaults to 1.
        time_limit (float, optional): Seconds that opening and decoding may
            take in all. None: no limit. Defaults to 60.

    Raises:
        VideoError: If the video cannot be read or is too short.
        UsageError: If there is no such decoder.
    """

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
        if reader.num_frames < self.min_frames:
            reader.close()
            raise VideoError(
                f'it has {reader.num_frames} frames, fewer than '
                f'min_frames={self.min_frames}'
            )
        results['video_reader'] = reader
        results['total_frames'] = reader.num_frames
        results['avg_fps'] = reader.fps or 30.0
        results['start_index'] = 0
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
    ``avg_fps``.

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
        # A copy: some transforms, such as Flip, work in place.
        return self._add(results, frames.copy(), fps)

    @staticmethod
    def _add(results: dict, frames: np.ndarray, fps: float) -> dict:
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
