# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmaction.registry import TRANSFORMS
from mmaction.structures import ActionDataSample
from mmcv.transforms import BaseTransform

from ...utils.errors import MaskError, SequenceError
from ...utils.image_files import read_image
from ..sequences.masks import read_mask

# Masks are not rotated as the EXIF data of a frame may ask for.
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def _read_frame(path: str) -> np.ndarray:
    """Decode an image: BGR, uint8 (H, W, 3)."""
    try:
        frame = read_image(path, _FLAGS)
    except cv2.error as error:
        raise SequenceError(
            f'{path} cannot be decoded: {error.err}'
        ) from error
    if frame is None:
        raise SequenceError(f'{path} is no image, or only a part of one.')
    return frame


@TRANSFORMS.register_module()
class LoadSequence(BaseTransform):
    """Read and resize the frames of a sequence.

    Each frame is resized as soon as it is read (OpenCV's bilinear, on uint8),
    so that only one is held at its full size.

    Required keys: ``frame_paths``.

    Added keys: ``imgs``: RGB, uint8 (T, h, w, 3). ``original_shape``: (H, W)
    in the files. ``img_shape``: (h, w).

    Args:
        size (int | tuple[int, int]): (h, w), or the length of one side.
        side (str): Which side an int is for, ``'short'`` or ``'long'``. The
            other one is scaled likewise and rounded down to a multiple of
            ``divisor``, also if the frame is square: DINO's evaluation on
            DAVIS has 480 for the short side
            (https://github.com/facebookresearch/dino, ``read_frame``), that
            of VIP 880 for the long side
            (https://github.com/alexandre-eymael/CropMAE, ``VOSDataset``).
        divisor (int): Defaults to 64.

    Raises:
        FileNotFoundError: If a frame is missing.
        SequenceError: If a frame is broken, frames are of different sizes, or
            too small for ``divisor``.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        side: str = 'short',
        divisor: int = 64,
    ) -> None:
        if side not in ('short', 'long'):
            raise ValueError(f"side must be 'short' or 'long', not {side!r}")
        if not isinstance(size, int):
            height, width = size
            size = height, width
        self.size = size
        self.side = side
        self.divisor = divisor

    def target_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the frames that a size in the files gives."""
        if not isinstance(self.size, int):
            return self.size
        n = self.divisor
        tall, wide = height > width, width > height
        if tall if self.side == 'short' else wide:
            return self.size * height // width // n * n, self.size
        return self.size, self.size * width // height // n * n

    def transform(self, results: dict) -> dict:
        """Read and resize."""
        paths = results['frame_paths']
        for number, path in enumerate(paths):
            frame = _read_frame(path)
            height, width = frame.shape[:2]
            if number == 0:
                original = height, width
                h, w = self.target_shape(height, width)
                if h < 1 or w < 1:
                    raise SequenceError(
                        f'{path} is {width}x{height}: resized by {self} '
                        'nothing is left of it.'
                    )
                imgs = np.empty((len(paths), h, w, 3), np.uint8)
            elif original != (height, width):
                raise SequenceError(
                    f'frames are of different sizes: {paths[0]} is '
                    f'{original[1]}x{original[0]}, {path} is '
                    f'{width}x{height}.'
                )
            if original != (h, w):
                frame = cv2.resize(frame, (w, h))
            cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=imgs[number])
        results['imgs'] = imgs
        results['original_shape'] = original
        results['img_shape'] = h, w
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, side={self.side!r}, '
            f'divisor={self.divisor})'
        )


@TRANSFORMS.register_module()
class LoadMasks(BaseTransform):
    """Read masks of a sequence, at their full size.

    Required keys: ``frame_paths``, ``mask_paths``, ``original_shape``; if
    there: ``binary_masks``, ``late_masks``.

    Added keys: ``masks``: dict {index of a frame: object ids, uint8 (H, W)}.

    Args:
        frames (str): ``'first'``: the mask of the first frame, and those in
            ``late_masks`` with only the new objects in them. ``'all'``: all
            that there are, with all objects. Defaults to ``'first'``.

    Raises:
        MaskError: If a mask cannot be read, or is not of the size of the
            frames.
    """

    def __init__(self, frames: str = 'first') -> None:
        if frames not in ('first', 'all'):
            raise ValueError(
                f"frames must be 'first' or 'all', not {frames!r}"
            )
        self.frames = frames

    def transform(self, results: dict) -> dict:
        """Read the masks."""
        paths = results['mask_paths']
        late = results.get('late_masks', {})
        wanted = [0, *late]
        if self.frames == 'all':
            wanted = [t for t, path in enumerate(paths) if path is not None]
        masks = {}
        for t in wanted:
            mask = read_mask(paths[t], results.get('binary_masks', False))
            height, width = results['original_shape']
            if mask.shape != (height, width):
                raise MaskError(
                    f'the mask {paths[t]} is {mask.shape[1]}x{mask.shape[0]}, '
                    f'its frame {results["frame_paths"][t]} {width}x{height}.'
                )
            if self.frames == 'first' and t in late:
                mask[~np.isin(mask, late[t])] = 0
            masks[t] = mask
        results['masks'] = masks
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(frames={self.frames!r})'


@TRANSFORMS.register_module()
class PackSequence(BaseTransform):
    """Lay a sequence out for the model.

    Required keys: ``imgs`` and those of the metainfo; if there: ``masks``.

    Gives ``inputs``: RGB, uint8 (T, 3, h, w), in memory (T, h, w, 3).
    ``data_samples``: an
    ``ActionDataSample`` with the metainfo ``sequence``, ``frame_paths``,
    ``frame_names`` (file names without extension), ``mask_paths``,
    ``original_shape``, ``img_shape``, ``finished`` (False), and, as
    ``gt_masks``, the masks.

    Args:
        meta_keys (Sequence[str]): More metainfo, of the keys that are there.
    """

    def __init__(
        self, meta_keys: Sequence[str] = ('binary_masks', 'late_masks')
    ) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Lay out."""
        frames = torch.from_numpy(np.asarray(results['imgs']))
        names = [Path(path).stem for path in results['frame_paths']]
        keys = (
            'sequence',
            'frame_paths',
            'mask_paths',
            'original_shape',
            'img_shape',
            *(key for key in self.meta_keys if key in results),
        )
        sample = ActionDataSample()
        sample.set_metainfo({key: results[key] for key in keys})
        sample.set_metainfo(dict(frame_names=names, finished=False))
        if 'masks' in results:
            sample.set_field(results['masks'], 'gt_masks')
        return dict(inputs=frames.permute(0, 3, 1, 2), data_samples=sample)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'
