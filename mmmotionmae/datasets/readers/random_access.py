# Copyright (c) MotionMAE contributors. All rights reserved.
"""Videos that may be entered at a key frame, and those that may not."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ...utils.errors import VideoError
from .base import Frame

# FFmpeg's names of the codecs whose key frames are known to need nothing of
# what precedes them; tests/datasets/test_random_access.py tries them.
SAFE_CODECS = frozenset(
    'av1 dnxhd dvvideo ffv1 flv1 h264 hevc huffyuv mjpeg mpeg1video mpeg2video'
    ' mpeg4 msmpeg4v2 msmpeg4v3 prores vp8 vp9 wmv1 wmv2'.split()
)
# What a container hands to the decoder once, with one packet, to hold from
# then on.
_STATE = ('palette', 'new_extradata', 'param_change')
_MAX_PROBED = 32  # key frames


def carries_state(packet: Any) -> bool:
    """Tell whether a packet changes how all that follow are decoded.

    Entered behind it, a video comes out black or in wrong colours.
    """
    # Few have any, and to ask for each kind takes longer.
    return next(packet.iter_sidedata(), None) is not None and any(
        packet.has_sidedata(kind) for kind in _STATE
    )


def seeks_rightly(
    codec: Any,
    keys: Sequence[int],
    num_frames: int,
    in_order: Callable[[Sequence[int]], Iterator[Frame]],
    sought: Callable[[list[int]], Iterable[Frame]],
) -> bool:
    """Find out whether key frames of a video can be decoded by themselves.

    Of a codec that is not known to be safe, the first key frame with a
    picture in it is read in order, and by seeking. It must be another than
    the first frame, and not of one colour: a decoder that lacks something
    tends to show black.

    Args:
        codec: PyAV's codec.
        keys: Numbers of the key frames, ascending.
        num_frames: Number of all frames.
        in_order: Gives frames of the video, decoded from its start.
        sought: Gives frames of the video, decoded from the last key frame.

    Returns:
        Whether it can be relied upon.
    """
    if codec.canonical_name in SAFE_CODECS:
        return True
    if len(keys) == num_frames and not codec.intra_only:
        return False  # the container knows no better
    probed = [key for key in keys if key][:_MAX_PROBED]
    if not probed:
        return False  # all is decoded from the start anyway
    try:
        for key, frame in zip(probed, in_order(probed), strict=True):
            if frame.min() < frame.max():
                others = list(sought([key]))
                return bool(others) and np.array_equal(frame, others[0])
    except VideoError:  # reading from the start is told what is wrong
        pass
    return False
