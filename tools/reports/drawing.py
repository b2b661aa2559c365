# Copyright (c) MotionMAE contributors. All rights reserved.
"""Plots and pictures that stand in an HTML file itself."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

# Text stays text, and the same plot gives the same file.
_STYLE: Any = {'svg.fonttype': 'none', 'svg.hashsalt': 'mmmotionmae'}

MOST_POINTS = 1000  # of a line
LEAST_R2 = -1.0  # that is shown: the first steps may be far below


@dataclass(frozen=True)
class Panel:
    """One plot.

    Attributes:
        title: Above it.
        lines: Points (x, y) of each line, by name. What is not finite is
            marked at the lower edge.
        xlabel: Of the x axis.
        bottom: The least y; None: what there is.
        zero: Whether a line is drawn at 0.
        marks: Places on the x axis to mark.
    """

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    xlabel: str = 'step'
    bottom: float | None = None
    zero: bool = False
    marks: Sequence[float] = field(default=())


def plot_panel(
    panel: Panel,
    colors: Sequence[str] | None = None,
    size: tuple[float, float] = (4.3, 2.7),
) -> str:
    """A plot as SVG.

    Args:
        panel: What it shows.
        colors: Of the lines. Defaults to Matplotlib's.
        size: Width and height, in inches.
    """
    figure, axis = plt.subplots(figsize=size)
    colors = colors or [f'C{i}' for i in range(len(panel.lines))]
    for (name, points), color in zip(
        panel.lines.items(), colors, strict=False
    ):
        if not points:
            continue
        found = np.array(points, np.float64).reshape(-1, 2)
        finite = np.isfinite(found[:, 1])
        shown = thin_out(found[finite])
        axis.plot(
            *shown.T,
            color=color,
            label=name,
            linewidth=1.3,
            marker='o' if len(shown) < 12 else None,
            markersize=3,
        )
        axis.plot(
            found[~finite, 0],
            np.full((~finite).sum(), 0.03),
            'v',
            color='crimson',
            markersize=5,
            transform=axis.get_xaxis_transform(),
        )
    for mark in panel.marks:
        axis.axvline(mark, color='0.5', linestyle=':', linewidth=1, zorder=0)
    if panel.zero:
        axis.axhline(0, color='0.7', linewidth=0.8, zorder=0)
        low, high = axis.get_ylim()
        if low < LEAST_R2:
            axis.set_ylim(LEAST_R2, max(high, 0.05))
    if panel.bottom is not None:
        axis.set_ylim(bottom=panel.bottom)
    axis.set_title(panel.title, fontsize=10, loc='left')
    axis.set_xlabel(panel.xlabel, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[['top', 'right']].set_visible(False)
    if len(panel.lines) > 1:
        axis.legend(fontsize=8, frameon=False)
    return to_svg(figure)


def thin_out(points: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Fewer points of a line, with all its peaks.

    Args:
        points: (N, 2), x and y.
        most: About as many are left.

    Returns:
        (M, 2): of each of ``most / 2`` stretches the least and the largest
        y, in order.
    """
    if len(points) <= most:
        return points
    chosen: set[int] = set()
    for part in np.array_split(np.arange(len(points)), most // 2):
        values = points[part, 1]
        chosen |= {int(part[values.argmin()]), int(part[values.argmax()])}
    return points[sorted(chosen)]


def to_svg(figure: plt.Figure) -> str:
    """A figure, which is closed, as an SVG element."""
    figure.tight_layout()
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(
            buffer, format='svg', transparent=True, metadata={'Date': None}
        )
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index('<svg') :]


def data_url(kind: str, content: bytes) -> str:
    """A picture as a URL that holds it.

    Args:
        kind: Of the file, ``'png'`` say.
        content: The file.
    """
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def embed_pictures(
    pictures: Sequence[tuple[str, Path]],
) -> list[tuple[str, str]]:
    """Names and PNG files to names and URLs that hold the picture."""
    return [
        (name, data_url('png', path.read_bytes())) for name, path in pictures
    ]


def png_url(picture: np.ndarray) -> str:
    """A picture, RGB, uint8 (H, W, 3), as a URL that holds it."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'PNG')
    return data_url('png', buffer.getvalue())


def gif_url(frames: np.ndarray) -> str:
    """A film, RGB, uint8 (T, H, W, 3), as a URL that holds it."""
    buffer = io.BytesIO()
    first, *others = [Image.fromarray(frame) for frame in frames]
    first.save(
        buffer,
        'GIF',
        save_all=True,
        append_images=others,
        duration=160,
        loop=0,
    )
    return data_url('gif', buffer.getvalue())
