# Copyright (c) MotionMAE contributors. All rights reserved.
"""Masks as labels of patches, and back.

Shapes: H W size of a frame, h w the patch grid, C labels: object ids.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmaction.registry import TASK_UTILS
from mmaction.structures import ActionDataSample
from PIL import Image
from torch import Tensor

from ...utils.transfer import copy_without_waiting

Size = tuple[int, int]


class MaskLabels(NamedTuple):
    """Meaning of the labels of a sequence.

    Attributes:
        ids: Object id of each label.
        original_shape: (H, W) of the sequence.
        img_shape: (H, W) of what the encoder sees.
    """

    ids: np.ndarray
    original_shape: Size
    img_shape: Size


@TASK_UTILS.register_module()
class SegmentationCodec:
    """Masks of object ids to soft labels of patches, and back.

    Args:
        downsample (str): How a mask comes to the patch grid.
            ``'nearest'``: the id in the middle of each patch (DINO).
            ``'bilinear'``: to the size of the encoder's frames by nearest
            pixel, one mask for each id, these interpolated (CRW). Objects
            that the first mask does not show, the background among them,
            then have no label.
        min_max (bool): Stretch each label's map to [0, 1], over the frame,
            before the largest is taken (DINO, VFS).
        argmax_size (str): At which size the largest label is taken.
            ``'img'``: that of the encoder's frames; the mask then goes to
            the original size by nearest pixel (DINO, CRW). ``'original'``
            (VFS).
        nearest (str): Whose nearest pixel, for that: ``'pillow'``, the one
            whose centre is nearest (DINO), or ``'opencv'``, the one at the
            upper left (CRW).
        first_frame (str): The mask of the first frame in the results.
            ``'given'``: as it is (DINO). ``'decoded'``: what the labels
            keep of it (CRW; it counts in VIP).

    Attributes:
        field (str): Of the data sample, for the masks of all frames.

    Raises:
        ValueError: If an argument is none of these.
    """

    field = 'pred_masks'
    _CHOICES = dict(
        downsample=('nearest', 'bilinear'),
        argmax_size=('img', 'original'),
        nearest=('pillow', 'opencv'),
        first_frame=('given', 'decoded'),
    )

    def __init__(
        self,
        downsample: str = 'nearest',
        min_max: bool = True,
        argmax_size: str = 'img',
        nearest: str = 'pillow',
        first_frame: str = 'given',
    ) -> None:
        self.downsample = downsample
        self.min_max = min_max
        self.argmax_size = argmax_size
        self.nearest = nearest
        self.first_frame = first_frame
        for name, choices in self._CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f'{name} must be one of {choices}; got '
                    f'{getattr(self, name)!r}.'
                )

    def describe(self) -> dict:
        """The arguments; they go into the results."""
        return dict(vars(self))

    def encode(
        self, sample: ActionDataSample, grid: Size
    ) -> tuple[Tensor, MaskLabels]:
        """Label the patches of the first frame.

        Args:
            sample: With ``gt_masks``: number of the frame to mask (H, W),
                uint8; and ``late_masks``, if objects appear later: number of
                the frame to their ids.
            grid: (h, w).

        Returns:
            (C, h, w), float32, in [0, 1], and what the labels mean. An
            object that appears later has a label, 0 everywhere.
        """
        mask = sample.gt_masks[0]
        late = [
            number
            for numbers in sample.get('late_masks', {}).values()
            for number in numbers
        ]
        ids = np.unique(np.concatenate([np.unique(mask), late]))
        if self.downsample == 'nearest':
            ids = np.union1d(ids, 0)
        labels = MaskLabels(
            ids.astype(np.uint8), sample.original_shape, sample.img_shape
        )
        return self.encode_mask(mask, labels, grid), labels

    def encode_mask(
        self, mask: np.ndarray, labels: MaskLabels, grid: Size
    ) -> Tensor:
        """Label the patches of a mask.

        Args:
            mask: (H, W), uint8, of object ids.
            labels: What they mean.
            grid: (h, w).

        Returns:
            (C, h, w), float32, in [0, 1].
        """
        if self.downsample == 'nearest':
            small = _resize_pillow(mask, grid)
            one_hot = small == labels.ids[:, None, None]
            return torch.from_numpy(one_hot).float()
        large = _resize_opencv(mask, labels.img_shape)
        maps = [
            cv2.resize(
                np.float32(large == number),
                grid[::-1],
                interpolation=cv2.INTER_LINEAR,
            )
            for number in labels.ids
        ]
        return torch.from_numpy(np.stack(maps))

    def insert(
        self,
        maps: Tensor,
        output: np.ndarray,
        sample: ActionDataSample,
        frame: int,
        labels: MaskLabels,
    ) -> tuple[Tensor, np.ndarray]:
        """Add the objects that are given in a later frame.

        Args:
            maps: (C, h, w), the labels predicted for that frame.
            output: (H, W), uint8, the mask predicted for it.
            sample: See :meth:`encode`.
            frame: Its number.
            labels: What the labels mean.

        Returns:
            Labels and mask with them: they take their place from the others.
        """
        mask = sample.gt_masks[frame]
        mask = np.where(np.isin(mask, sample.late_masks[frame]), mask, 0)
        grid = (maps.shape[1], maps.shape[2])
        new = self.encode_mask(mask, labels, grid)
        new[labels.ids == 0] = 0
        new = copy_without_waiting(new.to(maps.dtype), maps.device)
        maps = maps * (1 - new.sum(0)) + new
        return maps, np.where(mask > 0, mask, output)

    def decode(self, maps: Tensor, labels: MaskLabels) -> np.ndarray:
        """The mask that soft labels stand for.

        Args:
            maps: (C, h, w), the labels of the patches.
            labels: What they mean.

        Returns:
            (H, W), uint8, at the original size.
        """
        size = (
            labels.img_shape
            if self.argmax_size == 'img'
            else labels.original_shape
        )
        maps = F.interpolate(maps[None], size, mode='bilinear')[0]
        if self.min_max:
            maps = _stretch(maps)
        mask = labels.ids[maps.argmax(0).cpu().numpy()]
        if size == labels.original_shape:
            return mask
        resize = _resize_pillow if self.nearest == 'pillow' else _resize_opencv
        return resize(mask, labels.original_shape)


def _stretch(maps: Tensor) -> Tensor:
    """Each map to [0, 1]; maps without a positive value stay."""
    least = maps.amin((1, 2), keepdim=True)
    most = maps.amax((1, 2), keepdim=True)
    span = most - least
    # In DINO's code a constant map becomes 0 / 0, which its argmax prefers;
    # but rounding may be left of it, which is stretched.
    stretched = torch.where(span > 1e-6 * most, (maps - least) / span, 1)
    return torch.where(most > 0, stretched, maps)


def _resize_pillow(mask: np.ndarray, size: Size) -> np.ndarray:
    image = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(image)


def _resize_opencv(mask: np.ndarray, size: Size) -> np.ndarray:
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
