# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import os.path as osp
from abc import ABCMeta, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mmaction.structures import ActionDataSample
from mmengine.dataset import BaseDataset

from ...utils.errors import SequenceError
from ...utils.files import by_number
from ...utils.stores import is_url


def list_files(folder: str, extensions: tuple[str, ...]) -> dict[str, str]:
    """The files of a folder that have one of these extensions.

    Found in one listing, without a look at the files. Hidden ones are left
    out: macOS leaves them beside the images.

    Args:
        folder: Where to look. It need not exist.
        extensions: In lower case, such as ``('.jpg', '.png')``.

    Returns:
        Path of each file by its stem, in the order of the numbers in their
        names: ``frame_2`` before ``frame_10``.

    Raises:
        FileNotFoundError: If one is a broken link.
        SequenceError: If two names differ in the extension only.
    """
    names = []
    if osp.isdir(folder):
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name[0] == '.' or not name.lower().endswith(extensions):
                    continue
                if not entry.is_file():
                    raise FileNotFoundError(
                        f'{entry.path} is no file, or a broken link.'
                    )
                names.append(name)
    files: dict[str, str] = {}
    for name in sorted(names, key=by_number):
        path = osp.join(folder, name)
        if files.setdefault(Path(name).stem, path) != path:
            raise SequenceError(
                f'{files[Path(name).stem]} and {path} have one name but for '
                'the extension: which is it?'
            )
    return files


class SequenceDataset(BaseDataset, metaclass=ABCMeta):
    """Videos with labels; one sample is one whole video, or sequence.

    Data infos have the keys

    - ``sequence``: its name, unique, also where its results are stored; may
      hold slashes.
    - ``frame_paths``: list[str], in temporal order.
    - ``mask_paths``: list[str | None], one for each frame; None where there
      is no annotation.

    and what a subclass adds. No image is decoded before its sequence is
    loaded, but a missing file is found at the start.

    Attributes:
        finished (set[str]): Sequences that need not be loaded any more,
            because their results are there. Set before the data loader
            starts. A sample of them is ``dict(inputs=None,
            data_samples=sample)``, with the data info, ``frame_names`` and
            ``finished=True`` as metainfo; no file is read.

    Args:
        pipeline (list[dict]): The transforms.
        data_root (str): The folder of the data set.
        sequences (list[str], optional): Names of those to use. Defaults to
            None: all.
        test_mode (bool): Defaults to True.
        **kwargs: As in MMEngine's ``BaseDataset``.

    Raises:
        FileNotFoundError: If a file is missing.
        SequenceError: If files do not belong together, there are no
            sequences, the folder is a URL, or names occur twice, are unknown
            or would lead out of the folder.
    """

    def __init__(
        self,
        pipeline: list[dict | Callable],
        data_root: str | os.PathLike[str],
        sequences: Sequence[str] | None = None,
        test_mode: bool = True,
        **kwargs: Any,
    ) -> None:
        if is_url(os.fspath(data_root)):
            raise SequenceError(
                f'data_root must be a folder of this machine, not '
                f'{os.fspath(data_root)!r}: copy the data set.'
            )
        self.sequences = sequences
        self.finished: set[str] = set()
        super().__init__(
            data_root=os.fspath(data_root),
            pipeline=pipeline,
            test_mode=test_mode,
            **kwargs,
        )

    @abstractmethod
    def list_sequences(self) -> list[str]:
        """Names of all sequences, in the order of the samples."""

    @abstractmethod
    def find_sequence(self, sequence: str) -> dict:
        """The data info of a sequence, without its name.

        Raises:
            FileNotFoundError: If a file is missing.
            SequenceError: If files do not belong together.
        """

    def load_data_list(self) -> list[dict]:
        """List the sequences, and find the files of those to use."""
        names = self.list_sequences()
        for name in names:
            if name[0] == '/' or '..' in PurePosixPath(name).parts:
                raise SequenceError(
                    f'{self.data_root}: the sequence {name!r} leads out of '
                    'the folder.'
                )
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise SequenceError(
                f'{self.data_root}: sequences are listed twice: {twice}'
            )
        if self.sequences is not None:
            unknown = sorted(set(self.sequences) - set(names))
            if unknown:
                raise SequenceError(
                    f'{self.data_root} has no sequences {unknown}; it has '
                    f'{names}'
                )
            names = [name for name in names if name in self.sequences]
        if not names:
            raise SequenceError(f'{self.data_root}: no sequences are listed.')
        return [dict(self.find_sequence(n), sequence=n) for n in names]

    @property
    def num_frames(self) -> int:
        """Frames of all sequences that are not finished."""
        infos = [self.get_data_info(i) for i in range(len(self))]
        return sum(
            len(info['frame_paths'])
            for info in infos
            if info['sequence'] not in self.finished
        )

    def __getitem__(self, idx: int) -> dict:
        """Load the sequence, unless it is finished."""
        info = self.get_data_info(idx)
        if info['sequence'] not in self.finished:
            return super().__getitem__(idx)
        sample = ActionDataSample()
        frame_names = [Path(path).stem for path in info['frame_paths']]
        sample.set_metainfo(dict(info, frame_names=frame_names, finished=True))
        return dict(inputs=None, data_samples=sample)
