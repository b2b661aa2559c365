# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import os.path as osp
from collections.abc import Iterator

import cv2

from ...utils.errors import StorageError, UsageError, VideoError
from ...utils.files import by_number, is_litter
from ...utils.image_files import decode_image, read_image
from ...utils.storage import is_storage_error
from ...utils.stores import is_url, read_file
from .base import Frame, VideoReader

# Older than 4.11, OpenCV decodes to BGR only.
_RGB = getattr(cv2, 'IMREAD_COLOR_RGB', None)

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


def list_frames(folder: str) -> list[str]:
    """The images of a folder, in the order of the numbers in their names."""
    names = [
        name
        for name in os.listdir(folder)
        if name.lower().endswith(IMAGE_EXTENSIONS) and not is_litter(name)
    ]
    return sorted(names, key=by_number)


class FrameFolderReader(VideoReader):
    """Reads raw frames: a folder with an image for each frame.

    Args:
        path: The folder.
        time_limit: As in the base class.
        filename_tmpl: Names of the images, such as ``'img_{:05}.jpg'``.
            None: whatever images are there.
        start_index: Number of the first frame in ``filename_tmpl``.
        num_frames: How many there are. None: those that are there; in a
            store their names must be known.
        backend_args: As in :func:`~mmmotionmae.datasets.readers.open_video`.
    """

    fps = 0.0

    def __init__(
        self,
        path: str,
        time_limit: float | None = None,
        filename_tmpl: str | None = None,
        start_index: int = 1,
        num_frames: int | None = None,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(path, time_limit)
        self._backend_args = backend_args
        self._stored = is_url(path) or bool(backend_args)
        if filename_tmpl is not None and num_frames is not None:
            numbers = range(start_index, start_index + num_frames)
            self._names = [filename_tmpl.format(n) for n in numbers]
        elif self._stored:
            raise UsageError(
                f'Frames in a store, such as {path!r}, need a list with '
                'their number, and filename_tmpl.'
            )
        elif not osp.isdir(path):
            raise VideoError('there is no such folder')
        else:
            self._names = list_frames(path)[:num_frames]
        self.num_frames = len(self._names)
        if not self.num_frames:
            raise VideoError('there are no frames in it')

    def _frames(self, indices: list[int]) -> Iterator[Frame]:
        for index in indices:
            self.deadline.check()
            name = self._names[index]
            try:
                frame = self._read(name)
            except OSError as error:
                if is_storage_error(error):
                    raise StorageError(
                        f'{name!r}: {error.strerror}'
                    ) from error
                frame = None
            except cv2.error as error:
                raise self.lost(index, f'{name!r}: {error.err}') from error
            if frame is None:
                raise self.lost(index, f'{name!r} is missing or no image')
            if _RGB is None:
                cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame)
            yield frame

    def _read(self, name: str) -> Frame | None:
        path, flags = osp.join(self.path, name), _RGB or cv2.IMREAD_COLOR
        if not self._stored:
            return read_image(path, flags)
        try:
            data = read_file(path, self._backend_args, self.deadline)
        except StorageError:
            raise
        except VideoError as error:
            raise VideoError(f'{name!r}: {error}') from error
        return decode_image(data, flags)
