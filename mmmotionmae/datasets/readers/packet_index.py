# Copyright (c) MotionMAE contributors. All rights reserved.
"""List of the packets of a video, made without decoding."""

from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from ...utils.deadlines import Deadline
from ...utils.errors import VideoError
from .random_access import carries_state


class PacketIndex:
    """Times of the frames of a stream, and its key frames.

    What precedes the first key frame in the file does not count: such frames
    cannot be decoded, or come out grey.

    Args:
        container: Read from the start to the end.
        stream: Its video stream.
        deadline: When to give up.

    Attributes:
        num_before (int): Number of packets before the first key frame.
        num_frames (int): Number of frames to be shown, at least 1.
        times (list[int]): Ascending, one for each frame.
        keys (list[int]): Times of the key frames, ascending.
        timed (bool): Whether every frame has a time of its own, and these
            tell the order of the frames.
        closed (bool): Whether no frame is shown before a key frame that it
            follows in the file, so that key frames cut the video in pieces.
        whole (bool): Whether the first frame in the file is a key frame and
            the first to be shown. Not so if a video was cut out of a longer
            one without encoding it anew.
        trimmed (bool): Whether some frames are not to be shown.
        stateless (bool): Whether no packet carries what the decoder needs
            from then on, such as a palette.

    Raises:
        VideoError: If the file is broken or has no frames.
    """

    def __init__(self, container: Any, stream: Any, deadline: Deadline):
        packets: list[tuple[int | None, bool, bool]] = []
        self.stateless = True
        try:
            for packet in demux(container, stream):
                deadline.check()
                self.stateless &= not carries_state(packet)
                if packet.size:
                    packets.append(
                        (packet.pts, packet.is_keyframe, packet.is_discard)
                    )
        except av.FFmpegError as error:
            deadline.check()
            raise VideoError(reason_of(error)) from error
        keys = (i for i, packet in enumerate(packets) if packet[1])
        self.num_before = next(keys, 0)
        packets = packets[self.num_before :]
        shown = [packet for packet in packets if not packet[2]]
        if not shown:
            raise VideoError('there are no frames in it')
        self.trimmed = len(shown) < len(packets)
        self.num_frames = len(shown)
        self.times = sorted({time for time, _, _ in shown if time is not None})
        self.keys = sorted(t for t, key, _ in shown if key and t is not None)
        self.timed = len(self.times) == len(shown)
        reorders = stream.codec_context.has_b_frames
        self._compare_orders(packets, reorders)
        # Of AVI, FFmpeg guesses when B-frames are shown, at times wrongly.
        if reorders and container.format.name == 'avi':
            self.timed = False

    def _compare_orders(self, packets: list[tuple], reorders: bool) -> None:
        """Find out how the order in the file relates to the times."""
        times = np.array([time for time, _, _ in packets], float)
        is_key = np.array([key for _, key, _ in packets])
        latest = np.fmax.accumulate(times)
        group = is_key.cumsum()  # which key frame a frame follows
        key_times = times[np.searchsorted(group, group)]
        if (times < latest)[is_key].any():
            # All that precedes a key frame is shown before it. Here times
            # start anew: files have been joined.
            self.timed = False
        if reorders and not (times < latest).any():
            self.timed = False  # these are the times of decoding
        leading = times < key_times
        self.closed = not leading.any()
        self.whole = not (self.num_before or leading[group <= 1].any())

    def start_at(self, time: int) -> None:
        """Leave out what would be shown before a time."""
        self.times = [t for t in self.times if t >= time]
        self.keys = [t for t in self.keys if t >= time]
        self.num_frames = len(self.times)


def demux(container: Any, stream: Any) -> Iterator[Any]:
    """``container.demux``, also where other streams are found on the way.

    With ``yield from`` it is closed together with this generator: left
    unfinished, it leaks two kilobytes.
    """
    try:
        yield from container.demux(stream)
    except IndexError:
        pass  # PyAV looks for them in its list, after the last packet


def reason_of(error: Exception) -> str:
    """FFmpeg's message without number and file name."""
    text = getattr(error, 'strerror', None) or str(error)
    return f'{text[:1].lower()}{text[1:]}'
