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
from .overlay import ColourBar, add_caption, caption, contact_sheet

UInt8Array = npt.NDArray[np.uint8]

SHEET_FRAMES = 8
SHEET_WIDTH = 780  # of a row, about, in pixels; more for large frames
FILM_WIDTH = 224  # of a part of the film, at least
FILM_COLUMNS = 5


class Row(NamedTuple):
    """One kind of frames.

    Attributes:
        title: What it is.
        frames: RGB, uint8 (T, H, W, 3).
        note: How it was made; may be empty.
        scale: What its colours mean, if they are not those of the video.
        bar: Likewise, where a bar of colours shows it.
    """

    title: str
    frames: UInt8Array
    note: str = ''
    scale: str = ''
    bar: ColourBar | None = None

    @property
    def caption(self) -> str:
        """Title, note and what no bar shows."""
        scale = f': {self.scale}' if self.scale and self.bar is None else ''
        return f'{self.title}{self.note}{scale}'


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
    truth. Those of which there is no reconstruction are passed over.

    Args:
        videos: (C, T, H, W): those of one clip of a
            :class:`~.reconstruction.Reconstruction`.
        targets: Those of the model.
        statistics: That of the reconstruction, for the notes. None: not
            told there.

    Returns:
        ``input``, ``masked`` and, for each target, ``NAME`` and
        ``NAME_reconstruction``, as far as there are such.
    """
    rows = {
        name: Row(name, draw(videos[name])) for name in ('input', 'masked')
    }
    for name, target in targets.items():
        key = f'{name}_reconstruction'
        if key not in videos:
            continue
        note = statistics and statistics_note(target.norm, statistics)
        scale = target.scale(videos.get(name, videos['input']))
        colours = target.colours()
        bar = None if colours is None else ColourBar(colours, scale)
        legend = target.legend(scale)
        label = target.label or name
        kinds = {name: ('true', ''), key: ('predicted', note or '')}
        if name not in videos:  # it is the input
            del kinds[name]
        for key, (kind, how) in kinds.items():
            picture = target.draw(videos[key], scale)
            rows[key] = Row(f'{label}, {kind}', picture, how, legend, bar)
    return rows


def draw_sheet(rows: Mapping[str, Row]) -> UInt8Array:
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
        strips.append(add_caption(strip, row.caption, row.bar))
    return np.vstack(strips)


def draw_film(rows: Mapping[str, Row]) -> UInt8Array:
    """All rows side by side, frame by frame, above what the colours mean.

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
    feet = _feet(rows)
    frames = []
    for images in zip(*parts, strict=True):
        frame = contact_sheet(images, columns=FILM_COLUMNS)
        strips = [caption(frame.shape[1], *foot) for foot in feet]
        frames.append(np.vstack([frame, *strips]))
    return np.stack(frames)


def _feet(rows: Mapping[str, Row]) -> list[tuple[str, ColourBar | None]]:
    """Lines below a film, of what its titles leave out: text and bar."""
    feet: dict[str, Row] = {}
    for row in rows.values():
        if row.note or row.scale:
            label, _, _ = row.title.partition(', ')
            feet[label] = row._replace(title=label)
    lines: list[Row] = []
    for foot in feet.values():
        if lines and lines[-1].note == foot.note and not lines[-1].scale:
            foot = foot._replace(title=f'{lines.pop().title}, {foot.title}')
        lines.append(foot)
    result = []
    for line in lines:
        if line.note:
            line = line._replace(title=f'{line.title}, predicted')
        result.append((line.caption, line.bar))
    return result
