# Copyright (c) MotionMAE contributors. All rights reserved.
"""A plot of the time of a step over tokens."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scaling_points import Case
from scaling_report import Scaling

from mmmotionmae.apis import UsageError
from mmmotionmae.utils.files import complete_file

FORMATS = ('.png', '.svg')


def check_plot(file: str | None) -> None:
    """Check that a plot can be drawn, before anything is measured.

    Raises:
        UsageError: If matplotlib is missing, or for another kind of file.
    """
    if not file:
        return
    if Path(file).suffix not in FORMATS:
        raise UsageError(f'--plot {file!r} must end in .png or .svg.')
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--plot needs matplotlib: pip install 'mmmotionmae[demo]'."
        ) from error


def plot(scalings: Sequence[Scaling], file: Path, title: str) -> None:
    """Draw time over tokens on logarithmic axes.

    Points are medians with quartiles; the lines are what the count of FLOPs
    predicts from the time of the reference.

    Args:
        scalings: What was measured.
        file: PNG or SVG.
        title: Above the plot.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, ScalarFormatter

    figure = Figure(figsize=(6, 4.2), layout='constrained')
    axes = figure.add_subplot(xscale='log', yscale='log')
    for number, scaling in enumerate(scalings):
        name = 'with checkpointing' if scaling.with_cp else 'measured'
        line = '_' if number else f'FLOPs, scaled at {scaling.reference}'
        rows = scaling.rows()
        tokens = [row['tokens'] for row in rows]
        low, middle, high = np.transpose([row['ms'] for row in rows])
        color = f'C{number}'
        axes.errorbar(
            tokens,
            middle,
            [middle - low, high - middle],
            fmt='o',
            color=color,
            label=name,
        )
        at = [row['name'] for row in rows].index(
            str(Case(scaling.reference, scaling.with_cp))
        )
        flops = np.array([row['tflop'] for row in rows])
        axes.plot(
            tokens,
            flops / flops[at] * middle[at],
            color=color,
            alpha=0.5,
            label=line,
        )
    axes.set(xlabel='tokens of a clip', ylabel='ms per step', title=title)
    axes.set_xticks(tokens, labels=[str(count) for count in tokens])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.tick_params('x', rotation=45)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with complete_file(file) as path:
        figure.savefig(path, format=file.suffix[1:], dpi=150)
