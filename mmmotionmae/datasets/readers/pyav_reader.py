# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import (
    Colorspace,
    Interpolation,
    VideoReformatter,
)

from ...utils.deadlines import Deadline
from ...utils.errors import VideoError
from .base import Frame, VideoReader
from .packet_index import PacketIndex, demux, reason_of
from .random_access import seeks_rightly


class PyAVReader(VideoReader):
    """Reads with PyAV (FFmpeg).

    The packets of the file are listed without decoding them. To read, it is
    entered at the last key frame before the first wanted frame, and in
    between only those frames are decoded that are wanted or that others
    refer to. Where key frames need what precedes them, see
    :func:`seeks_rightly`, it is decoded from the start.

    Args:
        path: The file.
        time_limit: As in the base class.
        file: What is read in place of the path; it can seek.

    Attributes:
        index (PacketIndex): The list of packets.
        codec (str): FFmpeg's name of the codec.
        seeks (bool): Whether the video may be entered at its key frames. If
            not, it is decoded from the start.
        format (str): FFmpeg's name of the file format.
        num_declared (float): Number of frames according to the file, which
            may be wrong.

    Raises:
        VideoError: If it is no video, here or when frames are read.
    """

    def __init__(
        self,
        path: str,
        time_limit: float | Deadline | None = None,
        file: BinaryIO | None = None,
    ) -> None:
        super().__init__(path, time_limit, file)
        self._open()
        try:
            self.format = self._container.format.name
            self.index = PacketIndex(
                self._container, self._stream, self.deadline
            )
            self.num_frames = self.index.num_frames
            if not self.index.whole:
                # From where it can be decoded, the decoder knows.
                frames = self._decode_all(0)
                first = next(frames, None)
                if first is None:
                    raise VideoError('no frame in it can be decoded')
                if not self.index.timed:
                    self.index.num_frames = 1 + sum(1 for _ in frames)
                elif first.pts in self.index.times:
                    self.index.start_at(first.pts)
                self.num_frames = self.index.num_frames
        except BaseException:
            self.close()
            raise
        self.fps = float(self._stream.average_rate or 0)
        seconds = (self._container.duration or 0) / av.time_base
        self.num_declared = self._stream.frames or seconds * self.fps
        self._to_rgb = VideoReformatter()
        # Width and height of the first frame read.
        self._size: tuple[int | None, int | None] = (None, None)
        codec = self._stream.codec_context.codec
        self.codec = codec.canonical_name
        self.colours = int(self._stream.codec_context.colorspace)
        self.seeks = self.index.timed and self.index.stateless
        if self.seeks:
            self.seeks = seeks_rightly(
                codec,
                np.searchsorted(self.index.times, self.index.keys).tolist(),
                self.num_frames,
                self._from_start,
                self._from_key_frame,
            )
            self._size = (None, None)

    def starts_interlaced(self) -> bool:
        """True if the first frame, which is decoded, consists of fields."""
        first = next(self._decode_all(0), None)
        return first is not None and bool(first.interlaced_frame)

    def _open(self) -> None:
        self.deadline.check()
        if self.file is not None:
            self.file.seek(0)
        try:
            self._container = av.open(
                self.file or self.path, timeout=self.deadline.left()
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            self.deadline.check()
            raise VideoError(reason_of(error)) from error
        streams = [
            stream
            for stream in self._container.streams.video
            if stream.disposition != Disposition.attached_pic  # a cover
        ]
        if not streams or streams[0].codec_context is None:
            self.close()
            raise VideoError(
                'FFmpeg does not know its codec'
                if streams
                else 'there is no video in it'
            )
        self._stream = streams[0]
        self._stream.thread_type = 'NONE'
        self._stream.codec_context.thread_count = 1

    def close(self) -> None:
        """Give back the file."""
        self._container.close()
        super().close()

    def _frames(self, indices: list[int]) -> Iterator[Frame]:
        done = 0
        if self.seeks:
            for frame in self._from_key_frame(indices):
                yield frame
                done += 1
        # Some files have no times, or key frames that are none.
        if done < len(indices):
            yield from self._from_start(indices[done:])

    def _from_key_frame(self, indices: list[int]) -> Iterator[Frame]:
        """As many of the wanted frames as can be had by seeking."""
        if not indices:
            return
        wanted = [self.index.times[index] for index in indices]
        key = max((t for t in self.index.keys if t <= wanted[0]), default=None)
        if key is None:
            return
        try:
            self._container.seek(key, stream=self._stream)
        except (av.FFmpegError, OSError):
            self.deadline.check()
            return
        context = self._stream.codec_context
        times, decoded = set(wanted), {}
        ahead = set(wanted)  # not yet handed to the decoder
        position = 0
        entered = False
        for packet in self._packets():
            if not entered and packet.pts is not None:
                if packet.pts > key:  # the container seeks inaccurately
                    return
                entered = packet.pts == key
            needed = packet.pts is None or packet.pts in ahead
            context.skip_frame = 'DEFAULT' if needed else 'NONREF'
            ahead.discard(packet.pts)
            frames = self._decode(packet, indices[position])
            if not ahead:  # what is still inside the decoder comes out now
                frames += self._decode(None, indices[position])
            for frame in frames:
                if frame.pts in times:
                    decoded[frame.pts] = frame
            while wanted[position] in decoded:
                frame = decoded.pop(wanted[position])
                yield self._rgb(frame, indices[position])
                position += 1
                if position == len(wanted):
                    return
            if not ahead:
                return

    def _from_start(self, indices: Sequence[int]) -> Iterator[Frame]:
        """The wanted frames by counting from the first."""
        position = count = 0
        for frame in self._decode_all(indices[0]):
            if count == indices[position]:
                yield self._rgb(frame, count)
                position += 1
                if position == len(indices):
                    return
            count += 1
        raise self.lost(indices[position], f'the video ends after {count}')

    def _decode_all(self, index: int) -> Iterator[Any]:
        """All frames from the first key frame on.

        Args:
            index: Which frame is wanted, for the error message.
        """
        self._container.close()
        self._open()
        before = self.index.num_before
        for packet in self._packets():
            if before > 0 and packet.size:
                before -= 1
            else:
                yield from self._decode(packet, index)

    def _packets(self) -> Iterator[Any]:
        try:
            for packet in demux(self._container, self._stream):
                self.deadline.check()
                yield packet
        except av.FFmpegError as error:
            self.deadline.check()
            raise VideoError(reason_of(error)) from error

    def _decode(self, packet: Any, index: int) -> list[Any]:
        try:
            return self._stream.decode(packet)
        except av.FFmpegError as error:
            raise self.lost(index, reason_of(error)) from error

    def _rgb(self, frame: Any, index: int) -> Frame:
        """The frame in RGB, upright; a view of FFmpeg's memory if possible."""
        try:
            rgb = self._convert(frame)
        except (av.FFmpegError, ValueError):
            # Colours that FFmpeg cannot convert; decord and OpenCV take
            # them for those of BT.601.
            try:
                rgb = self._convert(frame, src_colorspace=Colorspace.ITU601)
            except (av.FFmpegError, ValueError) as error:
                raise self.lost(index, reason_of(error)) from error
        self._size = (rgb.width, rgb.height)
        plane = rgb.planes[0]
        memory = np.frombuffer(memoryview(plane), np.uint8)
        rows = memory.reshape(-1, plane.line_size)
        array = rows[: rgb.height, : 3 * rgb.width]
        array = array.reshape(rgb.height, rgb.width, 3)
        turns = round(frame.rotation / 90) % 4
        if turns:
            return np.rot90(array, turns).copy()
        # Without conversion it is the decoder's own memory.
        return array.copy() if rgb is frame else array

    def _convert(self, frame: Any, **kwargs: Any) -> Any:
        return self._to_rgb.reformat(
            frame,
            width=self._size[0],  # in some files it changes on the way
            height=self._size[1],
            format='rgb24',
            # Then chroma is scaled up as OpenCV does it.
            interpolation=Interpolation.BICUBIC,
            threads=1,
            **kwargs,
        )
