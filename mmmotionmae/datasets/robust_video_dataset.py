# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import os.path as osp
from typing import Any

import numpy as np
from mmaction.datasets.base import BaseActionDataset
from mmaction.registry import DATASETS
from mmengine.logging import MMLogger

from ..engine.samplers import SampleIndex

VIDEO_EXTENSIONS = (
    '.mp4',
    '.webm',
    '.mkv',
    '.avi',
    '.mov',
    '.m4v',
    '.mpg',
    '.mpeg',
    '.flv',
    '.wmv',
    '.3gp',
    '.ts',
)


def find_videos(folder: str) -> list[str]:
    """All video files below a folder, by extension.

    Args:
        folder: Where to look; sub-folders too, links to folders followed.

    Returns:
        Sorted paths relative to ``folder``.

    Raises:
        FileNotFoundError: If there is no such folder, or no video in it.
    """
    if not osp.isdir(folder):
        raise FileNotFoundError(f'There is no folder {folder!r}.')
    videos, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = osp.realpath(parent)
        if real in seen:  # a link back
            folders.clear()
            continue
        seen.add(real)
        videos += [
            osp.relpath(osp.join(parent, name), folder)
            for name in names
            if name.lower().endswith(VIDEO_EXTENSIONS)
        ]
    if not videos:
        raise FileNotFoundError(
            f'There is no video below {folder!r} (looked for '
            f'{", ".join(VIDEO_EXTENSIONS)}).'
        )
    return sorted(videos)


@DATASETS.register_module()
class RobustVideoDataset(BaseActionDataset):
    """Videos of a list or of a folder; an unreadable one ends no training.

    Takes MMAction2's and VideoMAE's lists: a line is a path and, optionally,
    a label; the path may contain spaces. A video that cannot be loaded in
    training is replaced by another one, and its name and the reason are
    logged (once per process). In test mode it is an error.

    Args:
        pipeline (list[dict]): The transforms.
        ann_file (str): The list. Defaults to ``''``: all videos below
            ``data_prefix['video']``, without labels.
        data_prefix (dict): ``video``: the folder to which paths are relative.
        delimiter (str): What stands between path and label. Defaults to a
            space.
        max_refetch (int): How many replacements are tried in a row before
            training stops. Defaults to 100.
        **kwargs: As in MMAction2's ``VideoDataset``; a video has one label,
            so there is no ``multi_class``.

    Raises:
        FileNotFoundError: If the list is missing, or the folder has no video.
        ValueError: If a line of the list has no path, or for
            ``multi_class=True``.
        RuntimeError: See ``max_refetch``, and a bad file in test mode.
    """

    def __init__(
        self,
        pipeline: list[dict],
        ann_file: str = '',
        data_prefix: dict = dict(video=''),
        delimiter: str = ' ',
        max_refetch: int = 100,
        **kwargs: Any,
    ) -> None:
        if kwargs.get('multi_class'):
            raise ValueError(
                'RobustVideoDataset has one label for a video; '
                'for multi_class use VideoDataset.'
            )
        self.delimiter = delimiter
        self._reported: set[str] = set()
        super().__init__(
            ann_file,
            pipeline=pipeline,
            data_prefix=data_prefix,
            max_refetch=max_refetch,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Read the list, or the folder."""
        prefix = self.data_prefix['video']
        if not self.ann_file:
            return [
                dict(filename=osp.join(prefix, name), label=-1)
                for name in find_videos(prefix or '.')
            ]
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'There is no annotation file {self.ann_file!r}.'
            )
        with open(self.ann_file, encoding='utf-8') as file:
            lines = file.read().splitlines()
        data_list = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            path, label = self._parse(line.strip())
            if not path:
                raise ValueError(
                    f'{self.ann_file}, line {number} has no path: {line!r}.'
                )
            data_list.append(
                dict(filename=osp.join(prefix, path), label=label)
            )
        return data_list

    def _parse(self, line: str) -> tuple[str, int]:
        """Split off the label, if the last part is a number."""
        path, _, label = map(str.strip, line.rpartition(self.delimiter))
        if label.lstrip('-').isdecimal():
            return path, int(label)
        return line, -1

    def __getitem__(self, idx: int) -> dict:
        """Load the sample, or, in training, another one instead."""
        if not self._fully_initialized:
            self.full_init()
        seed = getattr(idx, 'seed', None)
        for attempt in range(self.max_refetch + 1):
            try:
                data = self.prepare_data(idx)
                if data is None:  # MMEngine's way to say so
                    raise ValueError('a transform returned None')
                return data
            except Exception as error:
                filename = self.get_data_info(idx)['filename']
                reason = f'{type(error).__name__}: {error}'.split('\n')[0]
                last = f'{filename!r} cannot be loaded: {reason}'
                if self.test_mode:
                    raise RuntimeError(last) from error
                self._report(filename, last)
                cause = error
            if seed is None:
                idx = self._rand_another()
            else:  # as reproducible as the sample itself
                rng = np.random.default_rng((seed, attempt))
                idx = SampleIndex(int(rng.integers(len(self))), seed)
        raise RuntimeError(
            f'{self.max_refetch + 1} videos in a row cannot be loaded, so '
            f'training stops. The last one: {last}'
        ) from cause

    def _report(self, filename: str, message: str) -> None:
        if filename not in self._reported:
            self._reported.add(filename)
            MMLogger.get_current_instance().warning(
                f'{message}. Another video takes its place.'
            )
