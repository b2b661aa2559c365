# Copyright (c) MotionMAE contributors. All rights reserved.
import math

import cv2
import numpy as np
import torch
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

_POOL_BYTES = 160 * 10**6  # 64 clips of 16x224x224


class _Recycled:
    """Memory that goes back into a pool when no array uses it any more.

    The page faults of fresh memory take half as long as scaling the frames of
    a clip.

    Args:
        shape: Of the array, uint8, that NumPy makes of this.
        pool: Where memory comes from, if there is some, and goes.
    """

    def __init__(self, shape: tuple[int, ...], pool: list[np.ndarray]) -> None:
        size = math.prod(shape)
        memory = pool.pop() if pool else None
        if memory is None or memory.size < size:
            memory = np.empty(size, np.uint8)
        self._memory, self._pool = memory, pool
        self.__array_interface__ = dict(
            memory.__array_interface__, shape=shape
        )

    def __del__(self) -> None:
        if (len(self._pool) + 1) * self._memory.size <= _POOL_BYTES:
            self._pool.append(self._memory)


@TRANSFORMS.register_module()
class FormatClip(BaseTransform):
    """Resize frames and lay them out as clips, in one pass.

    Gives what MMAction2's ``Resize(keep_ratio=False)`` and
    ``FormatShape('NCTHW')`` give, with one copy of the pixels fewer: every
    frame, or crop of it, is scaled straight to its place in the clip. Goes
    after the cropping transforms.

    Required keys: ``imgs``, a list of uint8 (H, W, C); ``clip_len``;
    ``num_clips``.

    Modified keys: ``imgs``: a tensor, uint8 (N, C, T, H, W), N the number of
    clips times the number of crops; its memory is laid out as (N, T, H, W,
    C). ``img_shape``: (H, W).

    Added keys: ``input_shape``, the shape of ``imgs``.

    Args:
        size (int | tuple[int, int]): Height and width of the clips, or the
            side of a square.

    Raises:
        ValueError: If the frames are not uint8, or do not make up whole
            clips.
    """

    def __init__(self, size: int | tuple[int, int] = 224) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self._pool: list[np.ndarray] = []

    def transform(self, results: dict) -> dict:
        """Resize and lay out."""
        imgs = results['imgs']
        clip_len, num_clips = results['clip_len'], results['num_clips']
        if imgs[0].dtype != np.uint8 or len(imgs) % (clip_len * num_clips):
            raise ValueError(
                f'FormatClip takes uint8 frames for {num_clips} clips of '
                f'{clip_len}, not {len(imgs)} of {imgs[0].dtype}.'
            )
        height, width = self.size
        shape = (len(imgs), height, width, imgs[0].shape[2])
        frames = np.asarray(_Recycled(shape, self._pool))
        for frame, img in zip(frames, imgs, strict=True):
            cv2.resize(img, (width, height), dst=frame)
        clips = frames.reshape(-1, clip_len, *frames.shape[1:])
        results['imgs'] = torch.from_numpy(clips).permute(0, 4, 1, 2, 3)
        results['input_shape'] = tuple(results['imgs'].shape)
        results['img_shape'] = self.size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size})'
