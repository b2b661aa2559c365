# Copyright (c) MotionMAE contributors. All rights reserved.
"""Plots of a study, from its records alone."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

from mmmotionmae.utils.files import complete_file

from .report import Report

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402


def draw_plots(report: Report, folder: Path) -> None:
    """Draw the curves of pre-training and the results of all arms."""
    _save(_plot_curves(report), folder / 'curves.png')
    _save(_plot_results(report), folder / 'results.png')


def _plot_curves(report: Report) -> plt.Figure:
    keys = {'r2_pixel': 'R² of pixels', 'r2_motion': 'R² of motion'}
    figure, axes = plt.subplots(
        1, len(keys), figsize=(9, 3.2), layout='constrained'
    )
    colors = _colors(report.cfg.arms)
    first = next(iter(report.cfg.domains))
    for axis, (key, title) in zip(axes, keys.items(), strict=True):
        labelled = set()
        for name, record in sorted(report.records.items()):
            kind, *rest = name.split('/')
            if kind != 'pretrain' or rest[1] not in colors:
                continue
            label = rest[1] if rest[0] == first else f'{rest[1]} ({rest[0]})'
            rows = [r for r in record['result']['curve'] if key in r]
            if rows:
                axis.plot(
                    [row['step'] for row in rows],
                    [row[key] for row in rows],
                    color=colors[rest[1]],
                    linestyle='-' if rest[0] == first else ':',
                    linewidth=1,
                    label=None if label in labelled else label,
                )
                labelled.add(label)
        axis.axhline(0, color='0.7', linewidth=0.8)
        axis.set(title=f'{title}, masked tokens', xlabel='step')
        if labelled:
            axis.legend(fontsize=7, frameon=False)
    return figure


def _plot_results(report: Report) -> plt.Figure:
    panels = [
        (kind, task) for kind in report.kinds for task in report.tasks(kind)
    ]
    colors = _colors(report.cfg.arms)
    domains = ['none', *report.cfg.domains]
    columns = min(5, len(panels)) or 1
    lines = -(-len(panels) // columns) or 1
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(1 + 2.4 * columns, 3.2 * lines),
        layout='constrained',
        squeeze=False,
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (kind, task) in zip(axes.flat, panels, strict=False):
        rows = [
            (domain, arm, report.kinds[kind][domain, arm, task])
            for domain in domains
            for arm in colors
            if (domain, arm, task) in report.kinds[kind]
        ]
        for place, (_, arm, outcome) in enumerate(rows):
            seeds = outcome.values.mean(2).ravel()
            axis.plot(
                np.full(len(seeds), place),
                seeds,
                'o',
                color=colors[arm],
                markersize=3,
                alpha=0.6,
            )
            axis.plot(place, seeds.mean(), '_', color='k', markersize=16)
        axis.set(
            title=f'{kind}: {task}',
            xticks=range(len(rows)),
            ylabel='J&F' if kind == 'vos' else 'top-1 (%)',
        )
        labels = [
            arm if domain in domains[:2] else f'{arm} ({domain})'
            for domain, arm, _ in rows
        ]
        axis.set_xticklabels(labels, rotation=45, ha='right', fontsize=7)
    return figure


def _colors(arms: Mapping[str, object]) -> dict[str, str]:
    return {
        arm: '0.6' if options is None else f'C{number}'
        for number, (arm, options) in enumerate(arms.items())
    }


def _save(figure: plt.Figure, path: Path) -> None:
    with complete_file(path) as temporary:
        figure.savefig(temporary, format='png', dpi=110, metadata={})
    plt.close(figure)
