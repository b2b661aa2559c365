# Copyright (c) MotionMAE contributors. All rights reserved.
"""Baselines and bounds of label propagation."""

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
from mmaction.registry import MODELS, TASK_UTILS
from mmaction.structures import ActionDataSample
from torch import Tensor

from .base import SequenceModel


@MODELS.register_module()
class CopyFirstMask(SequenceModel):
    """The first mask for every frame: nothing has moved."""

    @property
    def protocol(self) -> dict[str, Any]:
        """dict: All that decides the result."""
        return dict(baseline=type(self).__name__)

    def label_frames(
        self, video: Tensor, sample: ActionDataSample
    ) -> Iterator[np.ndarray]:
        """Yield the first mask for every frame."""
        yield from repeat(sample.gt_masks[0], len(video))


@MODELS.register_module()
class GridOracle(SequenceModel):
    """The true masks, through the patch grid: what its labels keep of them.

    No bound: propagated labels are soft, and tell more of a boundary.

    Args:
        patch_size (int): Height and width of a patch. Defaults to 16.
        codec (dict): As in :class:`LabelPropagation`.
    """

    def __init__(
        self,
        patch_size: int = 16,
        codec: dict = dict(type='SegmentationCodec'),
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.codec = TASK_UTILS.build(codec)

    @property
    def protocol(self) -> dict[str, Any]:
        """dict: All that decides the result."""
        return dict(
            baseline=type(self).__name__,
            patch_size=self.patch_size,
            labels=dict(
                type=type(self.codec).__name__, **self.codec.describe()
            ),
        )

    def label_frames(
        self, video: Tensor, sample: ActionDataSample
    ) -> Iterator[np.ndarray]:
        """Yield each true mask, through the grid and back.

        Raises:
            ValueError: If a frame has no mask.
        """
        height, width = sample.img_shape
        grid = (height // self.patch_size, width // self.patch_size)
        _, labels = self.codec.encode(sample, grid)
        for number in range(len(video)):
            mask = sample.gt_masks.get(number)
            if mask is None:
                raise ValueError(
                    f'{sample.sequence}: GridOracle needs a mask of every '
                    'frame, and LoadMasks with frames="all"; there is none '
                    f'of frame {number}.'
                )
            yield self.codec.decode(
                self.codec.encode_mask(mask, labels, grid), labels
            )
