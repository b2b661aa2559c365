# Copyright (c) MotionMAE contributors. All rights reserved.
"""The demo's report: one HTML file that holds everything."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from reports.drawing import (
    Panel,
    gif_url,
    plot_panel,
    plt,
    png_url,
    to_svg,
)
from reports.logs import Row, read_log
from reports.page import write_page

from mmmotionmae.models import ReconstructionTarget
from mmmotionmae.visualization import enlarge, reconstruction_rows

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
    scalars: list[Row]

    @classmethod
    def read(cls, name: str, work_dir: Path) -> 'Curve':
        """Read what MMEngine's LocalVisBackend wrote."""
        return cls(name, read_log(work_dir).train)


def plot_curves(curves: list[Curve]) -> list[str]:
    """Losses and explained variance over the steps, as SVG.

    Args:
        curves: Of the pre-trainings, MotionMAE's last.
    """
    plots = []
    for key, title in _curve_titles(curves).items():
        lines = {
            curve.name: [
                (row['step'], row[key]) for row in curve.scalars if key in row
            ]
            for curve in curves
        }
        panel = Panel(title, lines, zero=key.startswith('r2'))
        plots.append(plot_panel(panel, COLORS[-len(curves) :]))
    return plots


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
    return to_svg(figure)


def film_strips(
    videos: Mapping[str, torch.Tensor],
    targets: Mapping[str, ReconstructionTarget],
) -> list[dict]:
    """The rows of the reconstruction pictures.

    Args:
        videos: What :func:`mmmotionmae.visualization.reconstruct` returns.
        targets: Those of the model.

    Returns:
        For each clip ``rows`` of (label, PNG of at most 8 frames side by
        side), an animated ``film`` of all rows and frames, and what the
        ``scales`` of the rows mean.
    """
    num_frames, _, width = videos['input'].shape[-3:]
    shown = slice(None, None, math.ceil(num_frames / 8))
    zoom = max(1, 780 // (8 * width))
    clips = []
    for i in range(len(videos['input'])):
        clip = {name: video[i] for name, video in videos.items()}
        rows, films, scales = [], [], {}
        for row in reconstruction_rows(clip, targets).values():
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
            rows.append((row.title, png_url(strip)))
            if row.scale:
                scales[row.title.partition(', ')[0]] = row.scale
        clips.append(
            dict(
                rows=rows,
                film=gif_url(np.concatenate(films, axis=2)),
                scales=scales,
            )
        )
    return clips


def write(path: Path, **content: object) -> None:
    """Render the report; it appears under its name only when complete."""
    write_page(path, TEMPLATE, **content)
