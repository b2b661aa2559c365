# Copyright (c) MotionMAE contributors. All rights reserved.
"""Targets that are a video themselves.

Shapes: B clips, C channels of the target, T frames, H W size, N tokens, M of
them masked, P positions of a tubelet, K = C*P values of a token.
"""

from typing import Any

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from ...utils.errors import UsageError
from ..utils.tubelet import (
    TokenSplit,
    patchify,
    select_tubelets,
    token_grid,
    unpatchify,
)
from .base import TUBELET_NORMS, ReconstructionTarget
from .noise import noise_level
from .values import clip_statistics, in_pixel_range


class TubeletTarget(ReconstructionTarget):
    """Base class of targets that are tubelets of a video.

    A subclass has to give :meth:`video`, and :attr:`video_channels` if they
    are not those of the frames.

    Args:
        pool (int): Height and width of blocks of pixels, in each frame of a
            tubelet, of which the mean is predicted: the low frequencies
            alone. It comes before the normalisation, which so is of the
            means, and K is divided by pool². Defaults to 1: every pixel.
        **kwargs: As in :class:`ReconstructionTarget`.

    Raises:
        ValueError: If blocks do not divide a tubelet.
    """

    def __init__(self, pool: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if pool < 1 or self.patch_size % pool:
            raise UsageError(
                f'The pool of target {self.name!r} must be at least 1 and '
                f'divide tubelets of {self.patch_size} pixels, not {pool}.'
            )
        self.pool = pool
        # Integers are pooled to sums, for means would no longer be exact.
        self.levels *= pool**2

    @property
    def video_channels(self) -> int:
        """int: C, the channels of :meth:`video`."""
        return self.channels

    @property
    def num_values(self) -> int:
        """int: K, the values of one token."""
        side = self.patch_size // self.pool
        return self.video_channels * self.tubelet_size * side**2

    def select(self, video: Tensor, index: Tensor) -> Tensor:
        """(B, C, T, H, W) at (B, N) to (B, N, C, P), pooled."""
        tubelets = select_tubelets(
            video, index, self.tubelet_size, self.patch_size
        )
        if self.pool == 1:
            return tubelets
        frames = tubelets.unflatten(-1, (-1, self.patch_size, self.patch_size))
        return self._pool(frames).flatten(-3)

    def statistics(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel, (B, 1, C, 1)."""
        return clip_statistics(self._pool(video), self.levels)

    def noise(self, video: Tensor) -> Tensor:
        """Deviation of the noise of each channel, (B, 1, C, 1).

        That of the difference of adjacent frames, over the root of two: see
        :func:`noise_level`.
        """
        frames = self._pool(video)
        frames = frames.short() if frames.dtype == torch.uint8 else frames
        roundings = 2 * self.pool**2
        return noise_level(frames.diff(dim=2), self.levels, roundings) / 2**0.5

    def _pool(self, video: Tensor) -> Tensor:
        """(..., H, W) to its blocks: sums of integers, means of floats."""
        if self.pool == 1:
            return video
        blocks = video if video.is_floating_point() else video.int()
        return reduce(
            blocks,
            '... (h i) (w j) -> ... h w',
            'mean' if video.is_floating_point() else 'sum',
            i=self.pool,
            j=self.pool,
        )

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
        what is behind the mask. A pooled prediction is spread over its
        blocks.

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
        values = values * std + mean
        if self.pool > 1:
            side = self.patch_size // self.pool
            values = repeat(
                values.unflatten(-1, (self.tubelet_size, side, side)),
                'b m c p0 h w -> b m c (p0 h i w j)',
                i=self.pool,
                j=self.pool,
            )
        tubelets = patchify(in_pixel_range(video), *size)
        tubelets[batch, masked] = values
        t, h, w = video.shape[-3:]
        return unpatchify(tubelets, token_grid(t, h, w, *size), *size)

    def _visible_statistics(
        self, video: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and deviation of visible tubelets, over (B, M, C, P)."""
        if self.norm in TUBELET_NORMS:
            target = self.build(video, visible)
            return (
                target.mean.mean(1, keepdim=True),
                target.std.mean(1, keepdim=True),
            )
        values = in_pixel_range(self.select(video, visible), self.levels)
        if self.norm == 'none':
            return values.new_zeros(()), values.new_ones(())
        std, mean = torch.std_mean(values, dim=(1, 3), keepdim=True)
        return mean, std + 1e-6

    def extra_repr(self) -> str:
        """Name, weight, norm, and pool if there is one."""
        pool = f', pool={self.pool}' if self.pool > 1 else ''
        return super().extra_repr() + pool
