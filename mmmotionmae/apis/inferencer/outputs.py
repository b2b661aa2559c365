# Copyright (c) MotionMAE contributors. All rights reserved.
"""Results of videos: reconstructions, pictures, dicts and files.

Shapes: B or N clips, C channels, T frames, H W size.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import numpy.typing as npt
from mmaction.structures import ActionDataSample
from PIL import Image
from torch import Tensor

from ...models import MotionMAE, ReconstructionTarget
from ...utils.choices import OUT_TYPES
from ...utils.errors import UsageError
from ...utils.files import complete_file
from ...utils.video_files import video_writer, write_gif
from ...visualization.heat_map import heat_map
from ...visualization.reconstruction import reconstruct_batch
from ...visualization.reconstruction_sheet import (
    draw_film,
    draw_sheet,
    reconstruction_rows,
)

UInt8Array = npt.NDArray[np.uint8]


def check_out_types(out_type: str | Sequence[str]) -> tuple[str, ...]:
    """One or several kinds of files, as a tuple.

    Raises:
        UsageError: If one is unknown.
    """
    kinds = (out_type,) if isinstance(out_type, str) else tuple(out_type)
    for kind in kinds:
        if kind not in OUT_TYPES:
            raise UsageError(
                f'out_type must be of {", ".join(OUT_TYPES)}, not {kind!r}.'
            )
    return kinds


def picture_paths(
    out_dir: str | Path,
    name: str,
    num_clips: int,
    statistics: str,
    kinds: Sequence[str],
) -> list[dict[str, Path]]:
    """Paths of the pictures of a video.

    Args:
        out_dir: The folder.
        name: Of the video.
        num_clips: N; with several, the names end in ``_clip1`` and so on.
        statistics: With which the predictions are shown; unless these are
            the true ones, the name tells.
        kinds: Keys of :data:`OUT_TYPES`.

    Returns:
        For each clip and kind a path.
    """
    if statistics != 'true':
        name += f'_{statistics}-statistics'
    names = [f'{name}_clip{i + 1}' for i in range(num_clips)]
    return [
        {kind: Path(out_dir, f'{clip}{OUT_TYPES[kind]}') for kind in kinds}
        for clip in (names if num_clips > 1 else [name])
    ]


def draw_pictures(
    sample: ActionDataSample, targets: Mapping[str, ReconstructionTarget]
) -> dict[str, UInt8Array]:
    """Draw the reconstruction of each clip of a video.

    Args:
        sample: What :meth:`MotionMAEInferencer.forward` returns for it.
        targets: Those of the model.

    Returns:
        RGB, uint8: ``sheet`` (N, H', W', 3), rows of frames; ``film`` (N, T,
        H", W", 3), all rows side by side; and, for each target that has a
        size (the motion), ``NAME_reconstruction_map`` (N, T, H, W, 3), how
        large the prediction is.
    """
    videos = {
        name: sample.get(name)
        for target in targets
        for name in ('input', 'masked', target, f'{target}_reconstruction')
        if name in sample
    }
    clips = [
        reconstruction_rows(
            {name: video[i] for name, video in videos.items()},
            targets,
            sample.statistics,
        )
        for i in range(len(sample.input))
    ]
    pictures = dict(
        sheet=np.stack([draw_sheet(rows) for rows in clips]),
        film=np.stack([draw_film(rows) for rows in clips]),
    )
    for name, target in targets.items():
        key = f'{name}_reconstruction_map'
        if key in sample:
            scales = map(target.scale, sample.get(name))
            maps = zip(sample.get(key), scales, strict=True)
            pictures[key] = np.stack([heat_map(*one) for one in maps])
    return pictures


def save_pictures(
    pictures: dict[str, UInt8Array], paths: list[dict[str, Path]], fps: int
) -> None:
    """Write the pictures of a video.

    Args:
        pictures: What :func:`draw_pictures` returns.
        paths: What :func:`picture_paths` returns; these are replaced.
        fps: Frames per second of films.
    """
    for sheet, film, files in zip(
        pictures['sheet'], pictures['film'], paths, strict=True
    ):
        still = film[len(film) // 2]
        for kind, picture, form in (
            ('img', sheet, 'PNG'),
            ('still', still, 'PNG'),
            ('webp', still, 'WEBP'),
        ):
            if kind in files:
                with complete_file(files[kind]) as temporary:
                    image = Image.fromarray(picture)
                    image.save(temporary, form, lossless=True)
        if 'gif' in files:
            write_gif(files['gif'], film, fps)
        if 'video' in files:
            with video_writer(files['video'], fps) as add_frame:
                for frame in film:
                    add_frame(frame)


_VALUES = ('name', 'source', 'frame_inds', 'statistics', 'errors')
_FORMATS = {'.json': 'json', '.pkl': 'pkl'}


def _arrays(sample: ActionDataSample) -> Iterator[str]:
    """Names of tensors whose first dimension is the clip."""
    for name, value in sample.items():
        if isinstance(value, Tensor) and name != 'masked':
            yield name


def drop_arrays(sample: ActionDataSample, keep: bool) -> None:
    """Remove what only pictures need, and, unless kept, all arrays."""
    for name in ('masked', *(() if keep else [*_arrays(sample)])):
        sample.pop(name, None)


def sample_to_dict(
    sample: ActionDataSample, arrays: bool = True
) -> dict[str, Any]:
    """A prediction without MMEngine's and PyTorch's types.

    Args:
        sample: What :meth:`MotionMAEInferencer.forward` returns.
        arrays: Whether arrays are among it, as NumPy's; what is left without
            them can be written as JSON.

    Returns:
        What the sample has of all fields.
    """
    result = {name: sample.get(name) for name in _VALUES if name in sample}
    if arrays:
        result |= {name: sample.get(name).numpy() for name in _arrays(sample)}
    return result


def check_out_file(path: str, overwrite: bool) -> None:
    """Make sure that predictions can be written to a file.

    Raises:
        UsageError: If its name does not tell the format, or it exists and
            must not be replaced.
    """
    if not path:
        return
    if Path(path).suffix not in _FORMATS:
        raise UsageError(
            f'Predictions are written to {" or ".join(_FORMATS)} (the latter '
            f'with all arrays), which {path!r} does not end in.'
        )
    if not overwrite:
        refuse_to_overwrite([Path(path)])


def refuse_to_overwrite(paths: list[Path]) -> None:
    """Raise a :class:`UsageError` that names the first path that exists."""
    for path in paths:
        if path.exists():
            raise UsageError(
                f'{str(path)!r} exists already; choose another name or '
                'folder, or write over it (overwrite).'
            )


def write_results(path: str, results: dict[str, Any]) -> None:
    """Write predictions.

    Args:
        path: A .json or .pkl file, replaced if it exists.
        results: As the format can hold them.
    """
    with complete_file(Path(path)) as temporary:
        mmengine.dump(
            results, str(temporary), file_format=_FORMATS[Path(path).suffix]
        )


def reconstruct_fields(
    model: MotionMAE, batch: dict[str, Any], statistics: str
) -> dict[str, Any]:
    """Reconstruct a batch.

    Args:
        model: A trained model.
        batch: See :func:`reconstruct_batch`; B counts all clips.
        statistics: As in :meth:`MotionMAEHead.predict`.

    Returns:
        For each field B values, on the CPU: ``errors``; ``input`` and
        ``masked`` (B, C, T, H, W); and for each target that is a video
        ``NAME`` (unless it is the input), ``NAME_reconstruction`` and, if it
        has a size, ``NAME_reconstruction_map`` (B, T, H, W).
    """
    result = reconstruct_batch(model, batch, statistics)
    fields: dict[str, Any] = dict(result.videos, errors=result.errors)
    for name, target in model.head.targets.items():
        key = f'{name}_reconstruction'
        size = target.magnitude(fields[key]) if key in fields else None
        if size is not None:
            fields[f'{key}_map'] = size
    return fields
