# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files of features, with a card: .npy with a .json beside it, or .h5.

Shapes: N videos; a row is the feature of a video, of any shape.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import UsageError
from ...utils.files import complete_file
from ...utils.provenance import (
    as_read,
    circumstances,
    find_differences,
    hash_file,
    hash_weights,
)
from .clips import ClipDataset
from .encoder import ClipEncoder, Encoder

SUFFIXES = ('.npy', '.h5')
_COPY_BYTES = 2**24  # at a time, from one file to another


@dataclass(frozen=True)
class Features:
    """Features of videos, and what they are.

    Attributes:
        values: (N, ...), float32 or float16; rows of videos that cannot be
            read are NaN. From a file: a memory map of the .npy, read-only, or
            the data set of the .h5, of which slices are arrays.
        names: N paths, as in the list that was encoded.
        labels: (N, ), int64; None without labels.
        card: Under ``fingerprint`` what changes the values (hash of the
            encoder's ``weights``, ``encoder``, ``features``, ``clips``,
            ``videos``), and beside it ``checkpoint``, ``versions``, ``date``
            and the like.
        bad_videos: The videos that cannot be read, with reasons.
    """

    values: Any
    names: list[str]
    labels: np.ndarray | None = None
    card: dict[str, Any] = field(default_factory=dict)
    bad_videos: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)


def check_suffix(path: Path) -> None:
    """Make sure that a file of this name can be written.

    Raises:
        UsageError: If its name ends in neither .npy nor .h5, or h5py is
            missing.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f'Features are written to {" or ".join(SUFFIXES)}, which '
            f'{str(path)!r} does not end in.'
        )
    if path.suffix == '.h5':
        _h5py()


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UsageError(
            ".h5 files need h5py: pip install 'mmmotionmae[features]', or "
            'choose a name that ends in .npy.'
        ) from error
    return h5py


def read_features(path: str | Path) -> Features:
    """Open a file that :func:`extract_features` has written.

    Args:
        path: The .npy, whose .json lies beside it, or the .h5.

    Returns:
        What is in it; values are read when they are used.

    Raises:
        FileNotFoundError: If there is no such file.
        UsageError: If it is none of these, or the .json is missing.
    """
    path = Path(path)
    check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f'There is no file {str(path)!r}.')
    try:
        features = _READERS[path.suffix](path)
    except (KeyError, OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f'{path} holds no features of extract_features: '
            f'{type(error).__name__}: {error}.'
        ) from error
    if len(features.values) != len(features.names):
        raise UsageError(
            f'{path} has {len(features.values)} rows for '
            f'{len(features.names)} names: write it anew.'
        )
    return features


def _read_npy(path: Path) -> Features:
    beside = path.with_suffix('.json')
    if not beside.is_file():
        raise UsageError(
            f'{path} has no {beside.name} beside it, which tells what it '
            'holds.'
        )
    info = json.loads(beside.read_text(encoding='utf-8'))
    labels = info['labels']
    return Features(
        np.load(path, mmap_mode='r'),
        info['names'],
        None if labels is None else np.array(labels, np.int64),
        info['card'],
        info['bad_videos'],
    )


def _read_h5(path: Path) -> Features:
    file = _h5py().File(path, 'r')
    return Features(
        file['features'],
        [str(name) for name in file['names'].asstr()[:]],
        file['labels'][:] if 'labels' in file else None,
        json.loads(file.attrs['card']),
        json.loads(file['bad_videos'].asstr()[()]),
    )


def write_features(path: Path, part: Path, features: Features) -> None:
    """Let a complete file appear under its name.

    Args:
        path: The .npy, with a .json beside it, or the .h5; replaced if it
            exists.
        part: A .npy file with the values, on the same disk. It becomes the
            new file, or is removed.
        features: All but the values.
    """
    _WRITERS[path.suffix](path, part, features)


def _write_npy(path: Path, part: Path, features: Features) -> None:
    labels = features.labels
    info = dict(
        card=features.card,
        bad_videos=features.bad_videos,
        names=features.names,
        labels=None if labels is None else labels.tolist(),
    )
    with complete_file(path.with_suffix('.json')) as temporary:
        text = json.dumps(info, indent=1, ensure_ascii=False) + '\n'
        temporary.write_text(text, encoding='utf-8')
    part.replace(path)


def _write_h5(path: Path, part: Path, features: Features) -> None:
    h5py = _h5py()
    values = np.load(part, mmap_mode='r')
    text = h5py.string_dtype()
    with (
        complete_file(path) as temporary,
        h5py.File(temporary, 'w') as file,
    ):
        # In chunks, one or more rows each, so that a slice is quick to read.
        data = file.create_dataset(
            'features', values.shape, values.dtype, chunks=True
        )
        step = max(1, _COPY_BYTES // max(values[:1].nbytes, 1))
        for start in range(0, len(values), step):
            data[start : start + step] = values[start : start + step]
        file.create_dataset('names', data=features.names, dtype=text)
        if features.labels is not None:
            file.create_dataset('labels', data=features.labels)
        bad = json.dumps(features.bad_videos, ensure_ascii=False)
        file.create_dataset('bad_videos', data=bad, dtype=text)
        file.attrs['card'] = json.dumps(features.card)
    part.unlink()


_READERS: dict[str, Callable[[Path], Features]] = {
    '.npy': _read_npy,
    '.h5': _read_h5,
}
_WRITERS: dict[str, Callable[[Path, Path, Features], None]] = {
    '.npy': _write_npy,
    '.h5': _write_h5,
}


def make_card(
    model: Any,
    encoder: Encoder,
    encode: ClipEncoder,
    clips: dict[str, Any],
    dataset: ClipDataset,
) -> dict[str, Any]:
    """Provenance of the features of a list of videos.

    Args:
        model: What the user gave: a path is noted.
        encoder: For its normalisation.
        encode: For its weights and settings.
        clips: Arguments of :func:`make_pipeline`.
        dataset: The videos.

    Returns:
        A dict for JSON of the form of :func:`utils.provenance.make_card`.
    """
    source = os.fspath(model) if isinstance(model, (str, Path)) else None
    pixels = dict(mean=encoder.mean, std=encoder.std, to_rgb=encoder.to_rgb)
    card = dict(
        fingerprint=dict(
            weights=hash_weights(encode.vit),
            encoder=encode.describe(),
            features=asdict(encode.settings),
            clips=clips | pixels,
            videos=dict(number=len(dataset), sha256=dataset.digest()),
        ),
        checkpoint=dict(path=source, sha256=hash_file(source)),
        device=encode.device.type,
        **circumstances(seed=None),  # nothing is random
    )
    return as_read(card)


def compare_kinds(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Differences in kind of the features of two cards; empty without.

    They may be of different videos and blocks, and, where views are averaged,
    of a different number of views.
    """
    return find_differences(_kind(old), _kind(new))


def _kind(card: dict[str, Any]) -> dict[str, Any]:
    fingerprint = dict(card['fingerprint'], videos=None)
    fingerprint['features'] = dict(fingerprint['features'], block=None)
    if fingerprint['features']['views'] == 'mean':
        fingerprint['clips'] = dict(
            fingerprint['clips'], num_clips=None, num_crops=None
        )
    return dict(card, fingerprint=fingerprint)
