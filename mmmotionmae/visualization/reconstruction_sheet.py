# Copyright (c) MotionMAE contributors. All rights reserved.
"""Pictures of a reconstruction: rows of frames, and a film of all rows.

Shapes: C channels, T frames, H W size.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..models.targets import ReconstructionTarget, draw_frames
from .heat_map import heat_map
from .overlay import add_caption, contact_sheet

UInt8Array = npt.NDArray[np.uint8]

SHEET_FRAMES = 8
SHEET_WIDTH = 780  # of a row, about, in pixels; more for large frames
FILM_WIDTH = 224  # of a part of the film, at least
FILM_COLUMNS = 4


class Row(NamedTuple):
    """One kind of frames.

    Attributes:
        title: What it is.
        scale: What its colours mean, if they are not those of the video.
        frames: RGB, uint8 (T, H, W, 3).
    """

    title: str
    scale: str
    frames: UInt8Array

    @property
    def caption(self) -> str:
        """Title and scale."""
        return f'{self.title}: {self.scale}' if self.scale else self.title


def draw(video: Tensor, zoom: int = 1) -> UInt8Array:
    """A video as frames for a picture file.

    Args:
        video: (C, T, H, W), in [0, 1]; values outside are clipped.
        zoom: Enlarge every pixel so many times.

    Returns:
        (T, H, W, C), uint8.
    """
    return enlarge(draw_frames(video), zoom)


def enlarge(frames: UInt8Array, zoom: int) -> UInt8Array:
    """Repeat every pixel ``zoom`` times along both sides of (T, H, W, C)."""
    return frames.repeat(zoom, 1).repeat(zoom, 2)


def statistics_note(norm: str, statistics: str) -> str:
    """With which mean and contrast a prediction is shown.

    Args:
        norm: Of the target, see :class:`ReconstructionTarget`.
        statistics: ``'true'`` or ``'visible'``, see
            :meth:`TubeletTarget.reconstruct`.

    Returns:
        For the end of a title; empty where the target is not normalised.
    """
    if norm == 'none':
        return ''
    if statistics == 'visible':
        return ' (mean, contrast of visible)'
    return ' (true mean, contrast)'


def reconstruction_rows(
    videos: Mapping[str, Tensor],
    targets: Mapping[str, ReconstructionTarget],
    statistics: str | None = None,
) -> dict[str, Row]:
    """The rows of one clip, in the order in which they are shown.

    Each target draws itself, truth and prediction on one scale, that of the
    truth; one that has a size gets heat maps of it, too. Those of which
    there is no reconstruction are passed over.

    Args:
        videos: (C, T, H, W): those of one clip of a
            :class:`~.reconstruction.Reconstruction`.
        targets: Those of the model.
        statistics: That of the reconstruction, for the titles. None: not
            told there.

    Returns:
        ``input``, ``masked`` and, for each target, ``NAME``,
        ``NAME_reconstruction``, ``NAME_map`` and
        ``NAME_reconstruction_map``, as far as there are such.
    """
    rows = {
        name: Row(name, '', draw(videos[name])) for name in ('input', 'masked')
    }
    for name, target in targets.items():
        if f'{name}_reconstruction' not in videos:
            continue
        note = statistics and statistics_note(target.norm, statistics)
        kinds = {
            name: 'true',
            f'{name}_reconstruction': f'predicted{note or ""}',
        }
        if name not in videos:  # it is the input
            del kinds[name]
        scale = target.scale(videos.get(name, videos['input']))
        legend = target.legend(scale)
        label = target.label or name
        for key, kind in kinds.items():
            picture = target.draw(videos[key], scale)
            rows[key] = Row(f'{label}, {kind}', legend, picture)
        legend = f'black 0, yellow {scale:.2f}'
        for key, kind in kinds.items():
            size = target.magnitude(videos[key])
            if size is not None:
                picture = heat_map(size, scale)
                title = f'size of {label}, {kind}'
                rows[f'{key}_map'] = Row(title, legend, picture)
    return rows


def draw_sheet(rows: dict[str, Row]) -> UInt8Array:
    """One picture: a row below the other, each under its caption.

    Args:
        rows: What :func:`reconstruction_rows` returns.

    Returns:
        RGB, uint8. A row has up to 8 frames, evenly spread over the clip.
    """
    strips = []
    for row in rows.values():
        frames = row.frames[:: math.ceil(len(row.frames) / SHEET_FRAMES)]
        zoom = max(1, round(SHEET_WIDTH / (frames.shape[2] * SHEET_FRAMES)))
        strip = contact_sheet(list(enlarge(frames, zoom)), columns=len(frames))
        strips.append(add_caption(strip, row.caption))
    return np.vstack(strips)


def draw_film(rows: dict[str, Row]) -> UInt8Array:
    """All rows side by side, frame by frame.

    Args:
        rows: What :func:`reconstruction_rows` returns.

    Returns:
        RGB, uint8 (T, H', W', 3).
    """
    size = next(iter(rows.values())).frames.shape
    zoom = max(1, math.ceil(FILM_WIDTH / size[2]))
    parts = [
        [add_caption(f, row.title) for f in enlarge(row.frames, zoom)]
        for row in rows.values()
    ]
    return np.stack(
        [
            contact_sheet(images, columns=FILM_COLUMNS)
            for images in zip(*parts, strict=True)
        ]
    )
