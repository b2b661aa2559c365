# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform


@TRANSFORMS.register_module()
class DecodeToMemory(BaseTransform):
    """Decode a whole short video once and keep its frames in memory.

    For small sets of short clips, which would otherwise be decoded again in
    every epoch. It stands in for ``DecordInit``; ``ArrayDecode`` then takes
    the place of ``DecordDecode``. Each process of the loader has a memory of
    its own. Once it is full, further videos are decoded every time.

    Added keys: ``array`` (T, H, W, 3), uint8, RGB; ``total_frames``;
    ``avg_fps``.

    Args:
        max_bytes (int): Size of the memory, per process. Defaults to 1 GB.
    """

    def __init__(self, max_bytes: int = 10**9) -> None:
        self.max_bytes = max_bytes
        self._used = 0
        self._videos: dict[str, tuple[np.ndarray, float]] = {}

    def transform(self, results: dict) -> dict:
        """Decode ``results['filename']``, or remember it."""
        filename = results['filename']
        if filename not in self._videos:
            video = self._decode(filename)
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

    @staticmethod
    def _decode(filename: str) -> tuple[np.ndarray, float]:
        import decord

        reader = decord.VideoReader(filename, num_threads=1)
        frames = reader.get_batch(range(len(reader))).asnumpy()
        return frames, reader.get_avg_fps()

    def __repr__(self) -> str:
        return f'{type(self).__name__}(max_bytes={self.max_bytes})'
