# Copyright (c) MotionMAE contributors. All rights reserved.
"""Targets that are a video themselves.

Shapes: B clips, C channels of the target, T frames, H W size, N tokens, M of
them masked, P positions of a tubelet, K = C*P values of a token.
"""

import torch
from einops import rearrange
from torch import Tensor

from ..utils.tubelet import (
    TokenSplit,
    patchify,
    select_tubelets,
    token_grid,
    unpatchify,
)
from .base import ReconstructionTarget
from .values import clip_statistics, in_pixel_range


class TubeletTarget(ReconstructionTarget):
    """Base class of targets that are tubelets of a video.

    A subclass has to give :meth:`video`, and :attr:`video_channels` if they
    are not those of the frames.
    """

    @property
    def video_channels(self) -> int:
        """int: C, the channels of :meth:`video`."""
        return self.channels

    @property
    def num_values(self) -> int:
        """int: K, the values of one token."""
        return self.video_channels * self.tubelet_size * self.patch_size**2

    def select(self, video: Tensor, index: Tensor) -> Tensor:
        """(B, C, T, H, W) at (B, N) to (B, N, C, P)."""
        return select_tubelets(
            video, index, self.tubelet_size, self.patch_size
        )

    def statistics(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel, (B, 1, C, 1)."""
        return clip_statistics(video)

    def reconstruct(
        self,
        pred: Tensor,
        video: Tensor,
        split: TokenSplit,
        statistics: str = 'true',
    ) -> Tensor:
        """Put a prediction back into the video.

        The visible tubelets are the true ones. At the masked ones stands the
        prediction, its normalisation undone with the statistics of the true
        tubelets (as in the visualisations of MAE and VideoMAE), or with
        those of the visible ones, of which nothing but the prediction tells
        what is behind the mask.

        Args:
            pred: (B, M, K), normalised, any float dtype.
            video: (B, C, T, H, W), levels or float32.
            split: Which tokens are masked.
            statistics: ``'true'`` or ``'visible'``. With the norm ``'none'``
                both are the same.

        Returns:
            (B, C, T, H, W), float32.

        Raises:
            ValueError: If ``statistics`` is neither.
        """
        super().reconstruct(pred, video, split, statistics)
        if statistics == 'true':
            target = self.build(video, split.masked)
            mean, std = target.mean, target.std
        else:
            mean, std = self._visible_statistics(video, split.visible)
        size = (self.tubelet_size, self.patch_size)
        masked = split.masked
        batch = torch.arange(len(masked), device=masked.device)[:, None]
        values = rearrange(
            pred.float(), 'b m (c p) -> b m c p', c=self.video_channels
        )
        tubelets = patchify(in_pixel_range(video), *size)
        tubelets[batch, masked] = values * std + mean
        t, h, w = video.shape[-3:]
        return unpatchify(tubelets, token_grid(t, h, w, *size), *size)

    def _visible_statistics(
        self, video: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and deviation of visible tubelets, over (B, M, C, P)."""
        if self.norm == 'tubelet':
            target = self.build(video, visible)
            return (
                target.mean.mean(1, keepdim=True),
                target.std.mean(1, keepdim=True),
            )
        values = in_pixel_range(self.select(video, visible))
        if self.norm == 'none':
            return values.new_zeros(()), values.new_ones(())
        std, mean = torch.std_mean(values, dim=(1, 3), keepdim=True)
        return mean, std + 1e-6
