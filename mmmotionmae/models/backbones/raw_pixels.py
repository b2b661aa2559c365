# Copyright (c) MotionMAE contributors. All rights reserved.
from einops import rearrange
from mmaction.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor


@MODELS.register_module()
class RawPixels(BaseModule):
    """The pixels of each patch as its feature: what any encoder must beat.

    Args:
        patch_size (int): Height and width of a patch. Defaults to 16.
    """

    def __init__(self, patch_size: int = 16) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, frames: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C * patch_size**2, h, w)."""
        return rearrange(
            frames,
            'n c (h p) (w q) -> n (p q c) h w',
            p=self.patch_size,
            q=self.patch_size,
        )
