# Copyright (c) MotionMAE contributors. All rights reserved.
"""Data infos of the videos of a list, made when they are asked for."""

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .annotation import VideoList, locate


class ListedVideos(Sequence[dict]):
    """Data infos as MMAction2's data sets have them, of a list or a part.

    They never change, so that copies of it are the same object.

    Args:
        listed: The list.
        prefix: What its paths are relative to.
        filename_tmpl: Names of raw frames; None: the list is one of files.
        start_index: Number of the first raw frame, to which ``offset`` is
            relative.
        rows: Which entries, in order. None: all.
    """

    def __init__(
        self,
        listed: VideoList,
        prefix: str = '',
        filename_tmpl: str | None = None,
        start_index: int = 0,
        rows: npt.NDArray[np.integer] | None = None,
    ) -> None:
        self.listed, self.prefix = listed, prefix
        self.filename_tmpl, self.start_index = filename_tmpl, start_index
        self._rows = rows

    def __deepcopy__(self, memo: dict) -> 'ListedVideos':
        return self

    def __len__(self) -> int:
        return len(self.listed if self._rows is None else self._rows)

    @property
    def has_clips(self) -> bool:
        """Tell whether some entries are parts of a video."""
        return self.listed.facts['clip_unit'] is not None

    @overload
    def __getitem__(self, index: int) -> dict: ...

    @overload
    def __getitem__(self, index: slice) -> 'ListedVideos': ...

    def __getitem__(self, index: int | slice) -> Any:
        """The data info at an index, or the part at a slice."""
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        row = self._row(index)
        info = self.listed.entry(row)
        path = locate(self.prefix, info.pop('path'))
        if self.filename_tmpl is None:
            return dict(info, filename=path)
        if 'start_index' in info:
            info['offset'] = info.pop('start_index') - self.start_index
        return dict(info, frame_dir=path, filename_tmpl=self.filename_tmpl)

    def _row(self, index: int) -> int:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f'There are {size} videos, none at {index}.')
        place = int(index) % size
        return place if self._rows is None else int(self._rows[place])

    def label_of(self, index: int) -> Any:
        """The label, or list of labels, of a data info."""
        return self.listed.label_of(self._row(index))

    def take(self, indices: Iterable[int]) -> 'ListedVideos':
        """The data infos at some indices, in their order."""
        rows = np.array([self._row(index) for index in indices], np.int64)
        return ListedVideos(
            self.listed,
            self.prefix,
            self.filename_tmpl,
            self.start_index,
            rows,
        )
