# Copyright (c) MotionMAE contributors. All rights reserved.
import queue
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ...utils.deadlines import Deadline
from ...utils.errors import VideoError
from .base import Frame, VideoReader
from .pyav_reader import PyAVReader
from .random_access import SAFE_CODECS

_CHUNK = 32  # frames decoded at a time
# FFmpeg's names of the formats in which decord finds key frames, and of
# those that it can at least read from the start; not so MPEG-TS, and MPEG-PS
# (.mpg, .vob), of which it may pass over the first frames.
_SEEKABLE = {'mov,mp4,m4a,3gp,3g2,mj2', 'matroska,webm', 'avi', 'flv'}
_READABLE = {*_SEEKABLE, 'asf'}
# It asks for memory for so many, and if there is none, ends the process.
_MAX_DECLARED = 10**8


class DecordReader(VideoReader):
    """Reads with decord.

    The frames are counted by :class:`PyAVReader`. Of some videos decord
    would give wrong frames without a word: these are refused. Where it only
    finds key frames wrongly, as where frames are shown before a key frame
    that they follow in the file (open groups of pictures; B-frames in AVI),
    and of codecs that are not known to be safe, videos are decoded from their
    start.

    In place of single frames that it cannot decode, decord may give the
    nearest ones. A call into decord cannot be interrupted: one that exceeds
    the time limit is left behind in its thread.

    Args:
        path: The file.
        time_limit: As in the base class.

    Raises:
        ImportError: If decord is missing.
        VideoError: If it is no video, or one that decord reads wrongly.
    """

    def __init__(
        self, path: str, time_limit: float | Deadline | None = None
    ) -> None:
        try:
            import decord
        except ImportError as error:
            raise ImportError(
                "decoder='decord' needs decord (pip install decord); there "
                "are also 'pyav' and 'opencv'."
            ) from error
        super().__init__(path, time_limit)
        self._errors = (decord.DECORDError, RuntimeError, IndexError)
        with PyAVReader(path, self.deadline) as reader:
            self.num_frames, self.fps = reader.num_frames, reader.fps
            index, file_format = reader.index, reader.format
            declared = reader.num_declared
            safe = reader.seeks and reader.codec in SAFE_CODECS
        if file_format not in _READABLE:
            raise VideoError(f'decord reads {file_format} files wrongly')
        if not index.stateless:
            raise VideoError(
                'decord reads it wrongly, since the file gives its palette, '
                'or the like, only once'
            )
        if declared > _MAX_DECLARED:
            raise VideoError(
                f'it is said to have {declared:.3g} frames, too many for '
                f'decord; there are {self.num_frames}'
            )
        if not index.whole:
            raise VideoError(
                'decord reads it wrongly, since it starts between key frames'
            )
        self._seeks = (
            safe
            and index.closed
            and not index.trimmed
            and file_format in _SEEKABLE
        )
        self._reader = self._call(decord.VideoReader, path, num_threads=1)
        if len(self._reader) < self.num_frames:
            raise VideoError(
                f'decord finds {len(self._reader)} frames in it instead of '
                f'{self.num_frames}'
            )

    def close(self) -> None:
        """Give back the file."""
        self._reader = None
        super().close()

    def _call(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """Call decord, for no longer than there is time."""
        self.deadline.check()
        answer: queue.SimpleQueue = queue.SimpleQueue()

        def call() -> None:
            try:
                answer.put((function(*args, **kwargs), None))
            except Exception as error:
                answer.put((None, error))

        left = self.deadline.left()
        if left is None:
            call()
        else:  # a daemon, since Python waits for other threads when it ends
            threading.Thread(target=call, daemon=True).start()
        try:
            value, error = answer.get(timeout=left)
        except queue.Empty:
            raise self.deadline.error() from None
        if isinstance(error, self._errors):
            raise VideoError(_reason(error, self.path)) from error
        if error is not None:
            raise error
        return value

    def _frames(self, indices: list[int]) -> Iterator[Frame]:
        wanted = set(indices)
        read = indices
        if not self._seeks and indices:
            read = list(range(indices[-1] + 1))
        for start in range(0, len(read), _CHUNK):
            chunk = read[start : start + _CHUNK]
            batch = self._call(self._reader.get_batch, chunk).asnumpy()
            for index, frame in zip(chunk, batch, strict=True):
                if index in wanted:
                    yield frame


def _reason(error: Exception, path: str) -> str:
    """The heart of decord's message, without the file's name."""
    text = re.sub(r'\[\d\d:\d\d:\d\d\] \S+?:\d+: ', '', str(error))
    text = text.replace(f'[{path}]', '')
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f'decord: {lines[0][:200].rstrip(".")}' if lines else 'decord fails'
