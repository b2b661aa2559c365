# Copyright (c) MotionMAE contributors. All rights reserved.
"""Histograms of oriented gradients.

Shapes: B clips, C channels, T frames, H W size; h w cells of a frame, K bins
of a histogram.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor

from ...utils.errors import UsageError
from .drawing import UInt8Array
from .tubelet_target import TubeletTarget

_CLIPS_AT_ONCE = 8  # bounds the memory of gradients to half a gigabyte


@MODELS.register_module()
class HOGTarget(TubeletTarget):
    """Histograms of oriented gradients, as in MaskFeat.

    Masked Feature Prediction for Self-Supervised Visual Pre-Training (Wei et
    al., CVPR 2022, arXiv 2112.09133), section 3.2; the histograms are those
    of ``HOGLayerC`` in facebookresearch/SlowFast and, with
    ``gaussian_window=16``, of MMPretrain's ``HOGGenerator``: see :func:`hog`.
    (Both feed normalised frames to it. There rounding gives flat cells a
    histogram of noise, and puts exactly vertical gradients into one of the
    two bins beside them by chance. Here gradients are those of integers.)

    A token has channels x bins x frames x cells values, in this order: 216
    with tubelets of 2x16x16 pixels, or 108 with ``frames='first'``. They are
    in [0, 1], and each histogram of ``num_bins`` has length 1, or 0 where a
    cell is flat. So there is no other norm.

    Args:
        num_bins (int): Bins of a histogram, over half a turn. Defaults to 9.
        cell_size (int): Height and width of a cell, in pixels. Defaults to 8.
        frames (str): Of which frames of a tubelet: ``'all'``, or ``'first'``
            as MaskFeat does with videos. Defaults to ``'all'``.
        gaussian_window (int): Gradients weigh less towards the border of
            windows of this size, as in MMPretrain's MaskFeat. 0: all the
            same, as in SlowFast's. Defaults to 0.
        norm (str): Only ``'none'``.
        **kwargs: As in :class:`ReconstructionTarget`: cells are not pooled.

    Raises:
        ValueError: If ``frames`` is neither, or cells do not divide a
            tubelet.
    """

    norms = ('none',)
    label = 'HOG'

    def __init__(
        self,
        num_bins: int = 9,
        cell_size: int = 8,
        frames: str = 'all',
        gaussian_window: int = 0,
        norm: str = 'none',
        **kwargs: Any,
    ) -> None:
        super().__init__(norm=norm, **kwargs)
        if self.pool != 1:
            raise UsageError('Cells are not pooled: give a larger cell_size.')
        if frames not in ('all', 'first'):
            raise UsageError(
                f"frames must be 'all' or 'first', not {frames!r}."
            )
        if min(num_bins, cell_size) < 1 or (
            gaussian_window and gaussian_window < 2
        ):
            raise UsageError(
                'num_bins and cell_size must be at least 1, and '
                f'gaussian_window 0 or at least 2; got {num_bins}, '
                f'{cell_size} and {gaussian_window}.'
            )
        if self.patch_size % cell_size:
            raise UsageError(
                f'Cells of {cell_size} pixels do not divide tubelets of '
                f'{self.patch_size}.'
            )
        self.num_bins = num_bins
        self.cell_size = cell_size
        self.gaussian_window = gaussian_window
        self.stride = self.tubelet_size if frames == 'first' else 1
        # From here on a tubelet is one of a video of cells.
        self.tubelet_size //= self.stride
        self.patch_size //= cell_size

    @property
    def video_channels(self) -> int:
        """int: C*K, one for each bin of each channel."""
        return self.channels * self.num_bins

    def video(
        self,
        frames: Tensor,
        data_samples: Sequence[ActionDataSample] | None = None,
    ) -> Tensor:
        """Frames (B, C, T, H, W), uint8, to (B, C*K, T, h, w), float32.

        With ``frames='first'`` of every ``tubelet_size``-th frame only.
        """
        parts = frames[:, :, :: self.stride].split(_CLIPS_AT_ONCE)
        args = (self.num_bins, self.cell_size, self.gaussian_window)
        return torch.cat([hog(part, *args).flatten(1, 2) for part in parts])

    def legend(self, scale: float) -> str:
        """Meaning of the lines."""
        return 'lines along edges, the brighter the stronger in their cell'

    def draw(self, video: Tensor, scale: float) -> UInt8Array:
        """(C*K, T, h, w) to RGB, uint8, in pixels: :func:`hog_to_rgb`."""
        histograms = video.unflatten(0, (self.channels, -1)).mean(0)
        drawn = hog_to_rgb(histograms, self.cell_size)
        return np.repeat(drawn, self.stride, axis=0)


def hog(
    clip: Tensor, num_bins: int, cell_size: int, gaussian_window: int = 0
) -> Tensor:
    """Histograms of oriented gradients of each frame and channel.

    Gradients are Sobel's, at the border of the frame those of its
    reflection. Their direction without sign, the angle from the y-axis in
    [0, pi), says in which bin they count, by their length. No block of cells
    is normalised together, but each histogram by its own length.

    Args:
        clip: (B, C, T, H, W): levels, integers.
        num_bins: K.
        cell_size: Height and width of a cell, in pixels.
        gaussian_window: Size of the windows, side by side, within which
            gradients are weighted by a Gaussian whose deviation is half of
            it. 0: no weights.

    Returns:
        (B, C, K, T, h, w), float32, in [0, 1].
    """
    x = _reflect(_reflect(clip.to(torch.int16), 3), 4)
    along_y = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
    along_x = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    gx = (along_y[..., :-2] - along_y[..., 2:]).float()
    gy = (along_x[..., :-2, :] - along_x[..., 2:, :]).float()
    bins = torch.atan2(gx, gy).div_(math.pi).mul_(num_bins)
    bins.floor_().remainder_(num_bins)
    bins.masked_fill_(gx == 0, 0)  # not where a rounded pi would put it
    length = gx.square_().add_(gy.square_()).sqrt_()
    if gaussian_window:
        rows, columns = (
            _gaussian(size, gaussian_window, clip.device)
            for size in clip.shape[-2:]
        )
        length *= rows[:, None] * columns
    # Bin by bin: no memory for all at full size, nor sums in random order.
    cells = [
        reduce(
            torch.where(bins == k, length, 0.0),
            'b c t (h i) (w j) -> b c t h w',
            'sum',
            i=cell_size,
            j=cell_size,
        )
        for k in range(num_bins)
    ]
    return F.normalize(torch.stack(cells, dim=2), dim=2)


def _reflect(x: Tensor, dim: int) -> Tensor:
    """Add a line at both ends; ``F.pad`` does not reflect integers."""
    return torch.cat((x.narrow(dim, 1, 1), x, x.narrow(dim, -2, 1)), dim)


def _gaussian(size: int, window: int, device: torch.device) -> Tensor:
    """Weights along one axis."""
    place = torch.arange(size, device=device) % window - (window - 1) / 2
    return place.div_(window // 2).square_().mul_(-0.5).exp_()


def hog_to_rgb(histograms: Tensor, cell_size: int) -> UInt8Array:
    """Draw histograms: in each cell a line along the edge of each bin.

    Args:
        histograms: (K, T, h, w), float32, in [0, 1]: how bright each line is.
        cell_size: Height and width of a cell, in pixels.

    Returns:
        (T, H, W, 3), uint8, grey.
    """
    num_bins = len(histograms)
    angle = (torch.arange(num_bins) + 0.5) * (math.pi / num_bins)
    place = torch.arange(cell_size) - (cell_size - 1) / 2
    # How far a pixel is from the line through the centre.
    normal_x, normal_y = angle.sin(), angle.cos()
    off = (
        normal_y[:, None, None] * place[:, None]
        + normal_x[:, None, None] * place
    )
    lines = (off.abs() <= 0.5).float()
    picture = torch.einsum('kthw,kij->thiwj', histograms.clamp(min=0), lines)
    grey = rearrange(picture, 't h i w j -> t (h i) (w j)').clamp(max=1)
    levels = (grey * 255).round().byte()
    return repeat(levels, 't h w -> t h w c', c=3).numpy()
