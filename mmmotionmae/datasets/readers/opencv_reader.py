# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator

import cv2

from ...utils.deadlines import Deadline
from ...utils.errors import VideoError
from .base import Frame, VideoReader
from .pyav_reader import PyAVReader

_TURN = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}
# Whether frames that cannot be converted are given without a word.
_SILENT = tuple(map(int, cv2.__version__.split('.')[:2])) >= (4, 13)
# The matrix coefficients of ITU-T H.273 that FFmpeg's swscale converts: RGB,
# BT.709, none named, FCC, both of BT.601, SMPTE 240M and BT.2020. From 4.13 on
# the last one comes out some twenty levels off.
_CONVERTED = frozenset({0, 1, 2, 4, 5, 6, 7, 9} - ({9} if _SILENT else set()))


class OpenCVReader(VideoReader):
    """Reads with OpenCV.

    The frames are counted by :class:`PyAVReader`. Every video is decoded
    from its start, since OpenCV does not seek accurately. Before 4.13 it
    takes all videos for BT.601: of those that are marked as BT.709 or BT.2020
    the colours are a few levels off. Where the size of the frames changes on
    the way, it gives broken frames without a word; as for some videos that
    start between key frames, and from 4.13 for those in colours that FFmpeg
    cannot convert and for interlaced ones (what is left in memory), and for
    BT.2020 (colours that are far off): all of these are refused, interlaced
    ones and BT.2020 only where it is so.

    Args:
        path: The file.
        time_limit: As in the base class.

    Raises:
        VideoError: If it is no video, or one that OpenCV reads wrongly.
    """

    def __init__(
        self, path: str, time_limit: float | Deadline | None = None
    ) -> None:
        super().__init__(path, time_limit)
        with PyAVReader(path, self.deadline) as reader:
            self.num_frames, self.fps = reader.num_frames, reader.fps
            whole, colours = reader.index.whole, reader.colours
            interlaced = _SILENT and whole and reader.starts_interlaced()
        if not whole:
            raise VideoError(
                'OpenCV reads it wrongly, since it starts between key frames'
            )
        if colours not in _CONVERTED:
            raise VideoError(
                f'OpenCV may not convert its colours (matrix {colours}); '
                "the decoder 'pyav' does"
            )
        if interlaced:
            raise VideoError(
                f'OpenCV {cv2.__version__} cannot convert its interlaced '
                "frames; the decoder 'pyav' does"
            )
        self._open().release()

    def _open(self) -> cv2.VideoCapture:
        options = [cv2.CAP_PROP_N_THREADS, 1]
        left = self.deadline.left()
        if left is not None:
            limit = max(1, int(left * 1000))
            options += [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit]
            options += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
        capture = cv2.VideoCapture(self.path, cv2.CAP_FFMPEG, options)
        if not capture.isOpened():
            self.deadline.check()
            raise VideoError('OpenCV finds no video in it')
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return capture

    def _frames(self, indices: list[int]) -> Iterator[Frame]:
        capture = self._open()
        turn = _TURN.get(int(capture.get(cv2.CAP_PROP_ORIENTATION_META)))
        position = 0
        try:
            for index in indices:
                while position <= index:
                    self.deadline.check()
                    if not capture.grab():
                        self.deadline.check()
                        raise self.lost(
                            index, f'the video ends after {position}'
                        )
                    position += 1
                read, frame = capture.retrieve()
                if not read:
                    raise self.lost(index)
                if turn is not None:
                    frame = cv2.rotate(frame, turn)
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        except cv2.error as error:
            raise self.lost(index, error.err) from error
        finally:
            capture.release()
