# Copyright (c) MotionMAE contributors. All rights reserved.
import math
from collections.abc import Sequence

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor

from .tubelet_target import TubeletTarget

# The mean squared error at which the peak signal-to-noise ratio is 100 dB.
_LEAST_ERROR = 1e-10


@MODELS.register_module()
class PixelTarget(TubeletTarget):
    """The pixels of the clip, as in MAE and VideoMAE.

    Args:
        **kwargs: As in :class:`TubeletTarget`.
    """

    label = 'pixels'
    float_frames = True
    shown_by_input = True

    def video(
        self,
        frames: Tensor,
        data_samples: Sequence[ActionDataSample] | None = None,
    ) -> Tensor:
        """The frames (B, C, T, H, W) themselves, uint8."""
        return frames

    def errors(self, mse: float) -> dict[str, float]:
        """``mse``, and ``psnr`` in dB, at most 100."""
        return dict(mse=mse, psnr=-10 * math.log10(max(mse, _LEAST_ERROR)))
