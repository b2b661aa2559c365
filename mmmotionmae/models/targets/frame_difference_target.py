# Copyright (c) MotionMAE contributors. All rights reserved.
"""The difference of frames: MotionMAE's motion.

Shapes: B clips, C channels, T frames, H W size.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor

from ...utils.errors import UsageError
from .drawing import UInt8Array, diverging_colours, draw_signed
from .noise import noise_level
from .tubelet_target import TubeletTarget
from .values import TargetValues

# The least difference that is shown in the outermost colours: sensor noise
# should not look like motion.
LEAST_SCALE = 0.05


def check_frame_difference(mode: str, gap: int, first: str) -> None:
    """Make sure that there is such a :func:`frame_difference`.

    Raises:
        ValueError: If not.
    """
    if mode not in ('signed', 'absolute'):
        raise UsageError(f"mode must be 'signed' or 'absolute', not {mode!r}.")
    if gap < 1:
        raise UsageError(f'gap must be at least 1, not {gap}.')
    if first not in ('repeat', 'zero'):
        raise UsageError(f"first must be 'repeat' or 'zero', not {first!r}.")


def frame_difference(
    clip: Tensor,
    dim: int,
    mode: str = 'signed',
    gap: int = 1,
    first: str = 'repeat',
) -> Tensor:
    """Difference of each frame and the one ``gap`` before it.

    d_t = I_t - I_(t - gap), over the whole clip, so that it crosses the
    borders of tubelets.

    Args:
        clip: Of any shape: uint8, or signed of any dtype and unit.
        dim: The dimension of the frames.
        mode: ``'signed'`` or ``'absolute'``.
        gap: Frames between the two that are compared.
        first: What stands at the first ``gap`` frames, which have no
            predecessor: ``'repeat'``, the first difference there is, or
            ``'zero'``.

    Returns:
        Same shape and unit; int16 for uint8, else the same dtype.

    Raises:
        ValueError: If an argument is none of the above, or the clip has no
            more than ``gap`` frames.

    Examples:
        >>> frame_difference(torch.tensor([0., .5, .25]), dim=0).tolist()
        [0.5, 0.5, -0.25]
    """
    check_frame_difference(mode, gap, first)
    num_frames = clip.size(dim)
    if num_frames <= gap:
        raise UsageError(
            f'A clip of {num_frames} frames has no difference of frames '
            f'{gap} apart.'
        )
    # In place, for fresh memory costs more than the difference itself.
    motion = (
        clip.to(torch.int16) if clip.dtype == torch.uint8 else clip.clone()
    )
    later = motion.narrow(dim, gap, num_frames - gap)
    later.sub_(clip.narrow(dim, 0, num_frames - gap))
    if mode == 'absolute':
        later.abs_()
    start = motion.narrow(dim, 0, gap)
    if first == 'repeat':
        start.copy_(motion.narrow(dim, gap, 1).expand_as(start))
    else:
        start.zero_()
    return motion


@MODELS.register_module()
class FrameDifferenceTarget(TubeletTarget):
    """The motion of a clip: the temporal difference of its frames.

    The default is what the demo of MotionMAE's authors shows: a signed
    difference of adjacent sampled frames, the first one repeated. A reading
    of the paper's text would be ``mode='absolute'``.

    With the norm ``'tubelet'`` the sensor noise of a static tubelet is blown
    up to unit variance; with ``'tubelet-floor'`` to half of it.

    Args:
        mode (str): ``'signed'`` or ``'absolute'``. Defaults to ``'signed'``.
        gap (int): Frames between the two that are compared. Defaults to 1
            (best in the paper).
        first (str): What stands at the first ``gap`` frames: ``'repeat'``,
            the first difference there is, or ``'zero'``. Defaults to
            ``'repeat'``.
        moving_threshold (float): A tubelet counts as moving if the root mean
            square of its motion is above this, in units of the [0, 1] pixel
            range. Only for the log. Defaults to 0.02, about 5 grey levels.
        **kwargs: As in :class:`TubeletTarget`.

    Raises:
        ValueError: If an argument is none of the above.
    """

    label = 'motion'
    float_frames = True

    def __init__(
        self,
        mode: str = 'signed',
        gap: int = 1,
        first: str = 'repeat',
        moving_threshold: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_frame_difference(mode, gap, first)
        self.mode = mode
        self.gap = gap
        self.first = first
        self.moving_threshold = moving_threshold

    def video(
        self,
        frames: Tensor,
        data_samples: Sequence[ActionDataSample] | None = None,
    ) -> Tensor:
        """Frames (B, C, T, H, W), uint8, to their difference, int16."""
        return frame_difference(frames, 2, self.mode, self.gap, self.first)

    def noise(self, video: Tensor) -> Tensor:
        """Deviation of the noise of each channel, (B, 1, C, 1).

        That of the difference itself, root of two times that of the frames:
        see :func:`noise_level`.
        """
        # The first ones are no differences of their own.
        motion = self._pool(video[:, :, self.gap :])
        return noise_level(motion, self.levels, 2 * self.pool**2)

    def subsets(self, target: TargetValues) -> dict[str, Tensor]:
        """``moving``: the moving tubelets. R² is 0 where nothing moves.

        Args:
            target: What :meth:`build` returns.
        """
        return dict(moving=target.rms > self.moving_threshold)

    def scale(self, video: Tensor) -> float:
        """The difference shown in the outermost colours, motion_scale."""
        return motion_scale(video)

    def legend(self, scale: float) -> str:
        """Meaning of blue, black and orange."""
        return f'blue -{scale:.2f}, black 0, orange +{scale:.2f}'

    def colours(self) -> UInt8Array:
        """Those of :func:`diverging_colours`; 0 is black."""
        return diverging_colours()

    def draw(self, video: Tensor, scale: float) -> UInt8Array:
        """(C, T, H, W), as its mean over the channels, to (T, H, W, 3)."""
        return draw_signed(video.mean(0), scale)

    def magnitude(self, video: Tensor) -> Tensor:
        """(..., C, T, H, W) to its :func:`motion_map` (..., T, H, W)."""
        return motion_map(video)


def motion_scale(motion: Tensor) -> float:
    """The difference to show in the outermost colours.

    Args:
        motion: Of any shape; the true one, so that predictions of different
            models are shown alike.

    Returns:
        What 99.9 % of the differences do not exceed, at least
        :data:`LEAST_SCALE`.
    """
    # `torch.quantile` takes no more than 2**24 values.
    strong = np.quantile(motion.abs().cpu().numpy(), 0.999)
    return max(float(strong), LEAST_SCALE)


def motion_map(motion: Tensor) -> Tensor:
    """Size of the motion at each pixel.

    Args:
        motion: (..., C, T, H, W).

    Returns:
        (..., T, H, W): the root mean square over the channels.
    """
    return motion.square().mean(-4).sqrt()
