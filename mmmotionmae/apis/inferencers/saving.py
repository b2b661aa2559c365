# Copyright (c) MotionMAE contributors. All rights reserved.
"""Pictures of predictions, and their files.

Shapes: N clips of one video, C channels, T frames, H W size.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from mmaction.structures import ActionDataSample
from PIL import Image

from ...utils.errors import UsageError
from ...utils.files import complete_file
from ...utils.video_files import video_writer, write_gif
from ...visualization.reconstruction_sheet import (
    draw_film,
    draw_sheet,
    reconstruction_rows,
)

UInt8Array = npt.NDArray[np.uint8]

# MMAction2's words, and the extensions.
OUT_TYPES = dict(img='.png', video='.mp4', gif='.gif')


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
    """Where the pictures of a video go.

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


def draw_pictures(sample: ActionDataSample) -> dict[str, UInt8Array]:
    """Draw the reconstruction of each clip of a video.

    Args:
        sample: What :meth:`MotionMAEInferencer.forward` returns for it.

    Returns:
        RGB, uint8: ``sheet`` (N, H', W', 3), rows of frames; ``film`` (N, T,
        H", W", 3), all rows side by side; and, for a model that predicts
        motion, ``motion_map`` (N, T, H, W, 3), how large it is.
    """
    videos = dict(
        input=sample.input,
        masked=sample.masked,
        pixel=sample.get('pixel_reconstruction'),
        true_motion=sample.get('motion'),
        motion=sample.get('motion_reconstruction'),
    )
    clips = [
        reconstruction_rows(
            {k: v[i] for k, v in videos.items() if v is not None},
            sample.notes,
        )
        for i in range(len(sample.input))
    ]
    pictures = dict(
        sheet=np.stack([draw_sheet(rows) for rows in clips]),
        film=np.stack([draw_film(rows) for rows in clips]),
    )
    if 'motion_map' in clips[0]:
        pictures['motion_map'] = np.stack(
            [rows['motion_map'].frames for rows in clips]
        )
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
        if 'img' in files:
            with complete_file(files['img']) as temporary:
                Image.fromarray(sheet).save(temporary, 'PNG')
        if 'gif' in files:
            write_gif(files['gif'], film, fps)
        if 'video' in files:
            with video_writer(files['video'], fps) as add_frame:
                for frame in film:
                    add_frame(frame)
