# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Sequence

import torch
from mmaction.registry import MODELS
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from ...utils.imagenet import IMAGENET_MEAN, IMAGENET_STD


@MODELS.register_module()
class SequenceDataPreprocessor(BaseDataPreprocessor):
    """Bring whole videos to the device, as uint8.

    The model has the frames normalised as it needs them: in float32 the video
    would be four times as large.

    Args:
        mean (Sequence[float]): Mean of R, G, B, in [0, 255] units. Defaults
            to ImageNet's.
        std (Sequence[float]): Standard deviation, likewise.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        for name, values in (('mean', mean), ('std', std)):
            tensor = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def normalize(self, frames: Tensor) -> Tensor:
        """Normalise frames.

        Args:
            frames: (N, 3, H, W), uint8, RGB.

        Returns:
            (N, 3, H, W), float32.
        """
        return (frames - self.mean) / self.std

    def describe(self) -> dict[str, list[float]]:
        """The arguments; they go into the results."""
        return dict(
            mean=self.mean.flatten().tolist(), std=self.std.flatten().tolist()
        )
