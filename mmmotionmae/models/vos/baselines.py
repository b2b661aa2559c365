# Copyright (c) MotionMAE contributors. All rights reserved.
"""What results of label propagation are to be compared with."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmaction.registry import MODELS, TASK_UTILS
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModel
from torch import Tensor


class _Baseline(BaseModel):
    """Masks for each frame, without an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.on_frame: Callable[[], object] | None = None

    @property
    def protocol(self) -> dict[str, Any]:
        """dict: All that decides the result."""
        return dict(baseline=type(self).__name__)

    def forward(
        self,
        inputs: Sequence[Tensor | None],
        data_samples: Sequence[ActionDataSample],
        mode: str = 'predict',
    ) -> list[ActionDataSample]:
        """As :meth:`LabelPropagation.forward`."""
        for video, sample in zip(inputs, data_samples, strict=True):
            if video is None:
                continue
            masks = []
            for number in range(len(video)):
                masks.append(self._mask(sample, number))
                if self.on_frame is not None:
                    self.on_frame()
            sample.set_field(np.stack(masks), 'pred_masks')
        return list(data_samples)

    def _mask(self, sample: ActionDataSample, number: int) -> np.ndarray:
        raise NotImplementedError


@MODELS.register_module()
class CopyFirstMask(_Baseline):
    """The first mask for every frame: nothing has moved."""

    def _mask(self, sample: ActionDataSample, number: int) -> np.ndarray:
        return sample.gt_masks[0]


@MODELS.register_module()
class GridOracle(_Baseline):
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
            super().protocol,
            patch_size=self.patch_size,
            labels=dict(
                type=type(self.codec).__name__, **self.codec.describe()
            ),
        )

    def _mask(self, sample: ActionDataSample, number: int) -> np.ndarray:
        height, width = sample.img_shape
        grid = (height // self.patch_size, width // self.patch_size)
        if number not in sample.gt_masks:
            raise ValueError(
                f'{sample.sequence}: GridOracle needs a mask of every frame, '
                f'and LoadMasks with frames="all"; there is none of frame '
                f'{number}.'
            )
        _, labels = self.codec.encode(sample, grid)
        maps = self.codec.encode_mask(sample.gt_masks[number], labels, grid)
        return self.codec.decode(maps, labels)
