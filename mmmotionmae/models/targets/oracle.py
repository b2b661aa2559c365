# Copyright (c) MotionMAE contributors. All rights reserved.
"""Interpolation as a prediction of targets: a line to compare a model with.

Shapes: B clips, C channels, T frames, H W size, M masked tokens, K values of
a token.
"""

from collections.abc import Sequence

from mmaction.structures import ActionDataSample
from torch import Tensor

from ..utils.time_interpolation import interpolate_in_time
from ..utils.tubelet import TokenSplit
from .base import ReconstructionTarget
from .tubelet_target import TubeletTarget
from .values import LEVELS, in_pixel_range


def interpolate_target(
    target: ReconstructionTarget,
    frames: Tensor,
    video: Tensor,
    split: TokenSplit,
    tubelet_size: int,
    patch_size: int,
    data_samples: Sequence[ActionDataSample] | None = None,
) -> Tensor | None:
    """Predict a target by linear interpolation in time, without a model.

    The masked tubelets of the frames are filled by
    :func:`interpolate_in_time`, and the target is made of what comes out.
    Mean and deviation of a tubelet are then its own; those of the whole clip,
    and its noise, are the true ones. Of a target whose fields come from the
    loader, such as optical flow, its own video is filled instead.

    Args:
        target: What is predicted.
        frames: (B, C, T, H, W), uint8.
        video: What ``target.video`` makes of them.
        split: Which tokens are visible, and which are masked.
        tubelet_size: Frames of a tubelet.
        patch_size: Height and width of a tubelet, in pixels.
        data_samples: Those of the batch.

    Returns:
        (B, M, K), normalised, float32; None where what the loader made is no
        video.
    """
    size = (tubelet_size, patch_size)
    if not target.fields:
        filled = interpolate_in_time(frames.float(), split.visible, *size)
        # Rounded levels would be noise, which not every target can do without.
        filled = (
            filled.div_(LEVELS)
            if target.float_frames
            else filled.round_().byte()
        )
        filled = target.video(filled, data_samples)
    elif isinstance(target, TubeletTarget):
        filled = interpolate_in_time(
            in_pixel_range(video), split.visible, *size
        )
    else:
        return None
    return target.build(filled, split.masked, video).values.flatten(2)
