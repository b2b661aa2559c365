# Copyright (c) MotionMAE contributors. All rights reserved.
"""The demo's report: one HTML file that holds everything."""

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
import torch
from jobs import read_scalars
from PIL import Image

from mmmotionmae.models import ReconstructionTarget
from mmmotionmae.utils.files import complete_file
from mmmotionmae.visualization import enlarge, reconstruction_rows

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

# One colour for each kind of pre-training, in all plots.
COLORS = ('0.6', 'C0', 'C1')

TEMPLATE = Path(__file__).with_name('report.html.jinja')


@dataclass(frozen=True)
class Curve:
    """What one pre-training logged.

    Attributes:
        name: Of the run.
        scalars: One dict a logged step, with ``step``.
    """

    name: str
    scalars: list[dict[str, float]]

    @classmethod
    def read(cls, name: str, work_dir: Path) -> 'Curve':
        """Read what MMEngine's LocalVisBackend wrote."""
        return cls(name, read_scalars(work_dir, 'loss'))


def plot_curves(curves: list[Curve]) -> str:
    """Losses and explained variance over the steps, as SVG.

    Args:
        curves: Of the pre-trainings, MotionMAE's last.
    """
    colors = COLORS[-len(curves) :]
    keys = _curve_titles(curves)
    figure, axes = plt.subplots(
        1, max(1, len(keys)), figsize=(13, 2.9), squeeze=False
    )
    for axis, (key, title) in zip(axes[0], keys.items(), strict=False):
        for color, curve in zip(colors, curves, strict=True):
            rows = [row for row in curve.scalars if key in row]
            axis.plot(
                [row['step'] for row in rows],
                [row[key] for row in rows],
                color=color,
                label=curve.name,
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel('step', fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[['top', 'right']].set_visible(False)
        if key.startswith('r2'):
            axis.axhline(0, color='0.7', linewidth=0.8, zorder=0)
    axes[0, 0].legend(fontsize=8, frameon=False)
    return _svg(figure)


def _curve_titles(curves: list[Curve]) -> dict[str, str]:
    """What is logged of each target: its loss, and the last of its scores."""
    rows = [row for curve in curves for row in curve.scalars]
    logged = dict.fromkeys(key for row in rows for key in row)
    losses = [key for key in logged if key.startswith('loss_')]
    titles = {key: f'{key.removeprefix("loss_")} loss' for key in losses}
    for key in losses:
        name = key.removeprefix('loss_')
        scores = [k for k in logged if f'{k}_'.startswith(f'r2_{name}_')]
        if scores:
            words = scores[-1].removeprefix('r2_').replace('_', ', ')
            titles[scores[-1]] = f'R² of {words}'
    return titles


def plot_accuracies(arms: dict[str, list[float]], chance: float) -> str:
    """Every run as a dot, the means as bars, as SVG."""
    figure, axis = plt.subplots(figsize=(6.2, 0.55 * len(arms) + 1.1))
    for i, accuracies in enumerate(arms.values()):
        axis.barh(i, np.mean(accuracies), height=0.55, color=COLORS[i])
        places = [i] * len(accuracies)
        axis.plot(accuracies, places, 'o', color='0.15', ms=4, clip_on=False)
    axis.axvline(chance, color='0.5', linestyle=':', linewidth=1)
    axis.set_yticks(range(len(arms)), list(arms), fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel('top-1 accuracy (%); dots: seeds; dotted: chance')
    axis.spines[['top', 'right']].set_visible(False)
    return _svg(figure)


def film_strips(
    videos: dict[str, torch.Tensor],
    targets: Mapping[str, ReconstructionTarget],
) -> list[dict]:
    """The rows of the reconstruction pictures.

    Args:
        videos: What :func:`mmmotionmae.visualization.reconstruct` returns.
        targets: Those of the model.

    Returns:
        For each clip ``rows`` of (label, PNG of at most 8 frames side by
        side) and an animated ``film`` of all rows and frames.
    """
    num_frames, _, width = videos['input'].shape[-3:]
    shown = slice(None, None, math.ceil(num_frames / 8))
    zoom = max(1, 780 // (8 * width))
    clips = []
    for i in range(len(videos['input'])):
        clip = {name: video[i] for name, video in videos.items()}
        rows, films = [], []
        for name, row in reconstruction_rows(clip, targets).items():
            if name.endswith('_map'):
                continue
            frames = enlarge(row.frames, zoom)
            films.append(frames)
            frames = frames[shown]
            gap = np.full((len(frames), frames.shape[1], 2, 3), 255, np.uint8)
            strip = np.concatenate(
                [
                    part
                    for pair in zip(frames, gap, strict=True)
                    for part in pair
                ],
                axis=1,
            )
            rows.append((row.title, _png(strip)))
        clips.append(dict(rows=rows, film=_gif(np.concatenate(films, axis=2))))
    return clips


def embed_pictures(pictures: list[tuple[str, Path]]) -> list[tuple[str, str]]:
    """Names and PNG files to names and URLs that hold the picture."""
    return [
        (name, _data_url('png', path.read_bytes())) for name, path in pictures
    ]


def write(path: Path, **content: object) -> None:
    """Render the report; it appears under its name only when complete."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(TEMPLATE.read_text('utf-8'))
    with complete_file(path) as temporary:
        temporary.write_text(template.render(**content), 'utf-8')


def _svg(figure: plt.Figure) -> str:
    figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg')
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index('<svg') :]


def _data_url(kind: str, content: bytes) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def _png(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'PNG')
    return _data_url('png', buffer.getvalue())


def _gif(frames: np.ndarray) -> str:
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
    return _data_url('gif', buffer.getvalue())
