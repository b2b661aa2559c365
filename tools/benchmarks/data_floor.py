# Copyright (c) MotionMAE contributors. All rights reserved.
"""The floor under the data path: nothing but decoding."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from mmaction.registry import TRANSFORMS

from mmmotionmae.datasets.readers import list_frames

from .clips import Source, readable
from .common import Clock
from .data_paths import Draw, Reading

# OpenCV before 4.11 cannot decode to RGB.
RGB = getattr(cv2, 'IMREAD_COLOR_RGB', cv2.IMREAD_COLOR)


@dataclass(frozen=True)
class Packets:
    """What the floor knows of a video beforehand.

    Attributes:
        times: Of the frames, ascending.
        keys: Of the key frames.
        timed: Whether frames can be told by their times. If not, the video
            is decoded from its start.
    """

    times: tuple[int, ...]
    keys: tuple[int, ...]
    timed: bool


@dataclass(frozen=True)
class Floor:
    """Decodes just what a sample needs, in the quickest bare way.

    Of a video: PyAV opens it, seeks to the last key frame before the first
    wanted frame and decodes to the last wanted one, without the frames in
    between to which no other refers. Where that one is, it is told. Of raw
    frames: OpenCV reads them.

    Attributes:
        source: What is read.
        reading: Which frames.
        rgb: Whether wanted frames are converted to RGB, too.
        clock: Tells the time.
        repeats: As in :class:`DataPath`.
    """

    source: Source
    reading: Reading
    rgb: bool
    clock: Clock = time.perf_counter
    repeats: int = field(default=1, init=False)
    _packets: dict[Path, Packets] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        """For the table."""
        return f'floor: decoding{" to RGB" if self.rgb else ""}'

    def time(self, draws: Sequence[Draw]) -> dict[str, float]:
        """Decode the frames of a batch.

        Returns:
            Milliseconds per span: ``'decode'`` and, the same, ``'total'``.
        """
        seconds = 0.0
        for draw in draws:
            decode = self.decoder_of(draw)
            start = self.clock()
            decode()
            seconds += self.clock() - start
        per_span = seconds * 1e3 / len(draws)
        return dict(decode=per_span, total=per_span)

    def decoder_of(self, draw: Draw) -> Callable[[], int]:
        """What decodes a sample and returns how many frames it kept."""
        path = self.source.paths[draw.index]
        if self.source.raw_frames:
            names = [str(path / name) for name in list_frames(str(path))]
            images = [names[i] for i in self.wanted(draw, len(names))]
            return lambda: read_images(images, self.rgb)
        if path not in self._packets:
            self._packets[path] = list_packets(path)
        packets = self._packets[path]
        wanted = self.wanted(draw, len(packets.times))
        if decode_span(path, packets, wanted, False) < len(wanted):
            # Some files, such as AVI with B-frames, have wrong times.
            packets = self._packets[path] = replace(packets, timed=False)
        return lambda: decode_span(path, packets, wanted, self.rgb)

    def wanted(self, draw: Draw, num_frames: int) -> list[int]:
        """Frames of a sample, ascending, each once."""
        draw.seed_everything()
        results = TRANSFORMS.build(self.reading.sampling).transform(
            dict(total_frames=num_frames, start_index=0)
        )
        return np.unique(results['frame_inds']).tolist()


def read_images(names: Sequence[str], rgb: bool) -> int:
    """Read images, to BGR or RGB; returns how many."""
    flag = RGB if rgb else cv2.IMREAD_COLOR
    images = []
    for name in names:
        with open(name, 'rb') as file:
            content = np.frombuffer(file.read(), np.uint8)
        images.append(cv2.imdecode(content, flag))
    return len(images)


def list_packets(path: Path) -> Packets:
    """Read the packets of a video without decoding them.

    Raises:
        UsageError: If it cannot be read.
    """
    with readable(path), av.open(str(path)) as container:
        shown = [
            (packet.pts, packet.is_keyframe)
            for packet in container.demux(container.streams.video[0])
            if packet.size and not packet.is_discard
        ]
    times = [time for time, _ in shown if time is not None]
    return Packets(
        # Without times only their number counts.
        tuple(sorted(times) if times else range(len(shown))),
        tuple(time for time, key in shown if key and time is not None),
        len(set(times)) == len(shown),
    )


def decode_span(
    path: Path, packets: Packets, wanted: Sequence[int], rgb: bool
) -> int:
    """Decode frames of a video.

    Args:
        path: The file.
        packets: What is known of it.
        wanted: Positions of the frames, ascending, each once.
        rgb: Whether they are converted to RGB.

    Returns:
        How many of them there were.
    """
    frames: list[Any] = []
    to_rgb = VideoReformatter()

    def keep(frame: Any) -> None:
        if rgb:
            frame = to_rgb.reformat(
                frame,
                format='rgb24',
                interpolation=Interpolation.BICUBIC,
                threads=1,
            )
        frames.append(frame)

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = 'NONE'
        context = stream.codec_context
        context.thread_count = 1
        times = {packets.times[i] for i in wanted}
        first = min(times, default=-1)
        key = max((k for k in packets.keys if k <= first), default=None)
        if not packets.timed or key is None:  # its frames must be counted
            positions = set(wanted)
            for position, frame in enumerate(container.decode(stream)):
                if position in positions:
                    keep(frame)
                if position == wanted[-1]:
                    break
            return len(frames)
        container.seek(key, stream=stream)
        ahead = set(times)
        for packet in container.demux(stream):
            needed = packet.pts in ahead
            ahead.discard(packet.pts)
            context.skip_frame = 'DEFAULT' if needed else 'NONREF'
            # Nothing after the last wanted frame: what is still inside the
            # decoder then comes out at once.
            for one in [packet] if ahead else [packet, None]:
                for frame in stream.decode(one):
                    if frame.pts in times:
                        keep(frame)
            if not ahead:
                break
    return len(frames)
