# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from .heat_map import heat_map
from .reconstruction_sheet import Row, draw


def attention_rows(video: Tensor, attention: Tensor) -> dict[str, Row]:
    """Rows of a clip and of where its encoder looks, for sheets and films.

    Args:
        video: (C, T, H, W), in [0, 1].
        attention: (t, h, w), see :func:`attention_maps`.

    Returns:
        ``input``; ``attention``, in units of its mean; and ``overlay``, the
        frames, darker where attention is below its maximum.
    """
    relative = attention / attention.mean()
    size = video.shape[1:]
    # Each token as a block: what lies between is not known.
    values = interpolate(relative[None, None], size=size)[0, 0]
    scale = float(np.quantile(values.cpu().numpy(), 0.999))
    scale = max(scale, 1.0)  # all alike is the mean everywhere
    shown = video * (0.15 + 0.85 * (values / scale).clamp(0, 1))
    legend = f'black 0, yellow {scale:.1f} times the mean'
    return dict(
        input=Row('input', draw(video)),
        attention=Row('attention', heat_map(values, scale), scale=legend),
        overlay=Row('attention, on the input', draw(shown)),
    )
