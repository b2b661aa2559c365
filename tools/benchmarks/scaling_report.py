# Copyright (c) MotionMAE contributors. All rights reserved.
"""Growth of the time of a step: figures, table, verdict and plot."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmmotionmae.apis import UsageError
from mmmotionmae.utils.files import complete_file

from .networks import Setup
from .scaling_steps import PARTS, Case, Point, Times
from .table import Column, Table, quartiles

LIMIT = 1.1  # growth of the linear part that passes for noise

NOTES = (
    'TFLOP: matrix products of a step, three forward passes; what activation '
    'checkpointing computes again is not counted. ms: median and quartiles '
    'over {rounds} rounds, in each of which everything is measured once, in '
    'turn. "/ TFLOP": milliseconds per TFLOP relative to {reference}, in the '
    'same round. Then milliseconds of the parts, forward and backward: '
    'attention (without its projections) is within encoder and decoder; the '
    'rest is input, targets, heads and losses. "linear": what is neither '
    'attention nor optimiser, per token, relative to {reference}.'
)


def slope(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray
) -> float:
    """Slope of log y over log x, by least squares.

    It is the power of x with which y grows; NaN if all x are the same.
    """
    if len(set(x)) < 2:
        return float('nan')
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


@dataclass(frozen=True)
class Scaling:
    """What was measured on one network, with or without checkpointing.

    Attributes:
        setup: Network and batch size.
        reference: What the others are compared with; one of the keys of
            ``rounds``.
        with_cp: Whether activations were checkpointed.
        rounds: Times of every point, one for each round.
    """

    setup: Setup
    reference: Point
    with_cp: bool
    rounds: dict[Point, list[Times]]

    def rows(self) -> list[dict[str, Any]]:
        """The figures of each point, by tokens."""
        points = sorted(self.rounds, key=lambda p: p.tokens(self.setup))
        return [self._row(point) for point in points]

    def _row(self, point: Point) -> dict[str, Any]:
        tokens, visible = point.tokens(self.setup)
        flops = point.step_flops(self.setup)
        total = self._of(point, 'total')
        middle = float(np.median(total))
        relative = total / flops / self._per_flop_of_reference()
        linear = self._linear(point) / self._linear(self.reference)
        return dict(
            name=str(Case(point, self.with_cp)),
            frames=point.num_frames,
            img_size=point.img_size,
            with_cp=self.with_cp,
            tokens=tokens,
            visible=visible,
            forward_flops=asdict(point.flops(self.setup)),
            tflop=flops / 1e12,
            ms=quartiles(total),
            gflop_per_second=flops / middle / 1e6,
            ms_per_tflop=middle * 1e12 / flops,
            relative=quartiles(relative),
            linear_per_token=quartiles(linear),
            parts={
                part: float(np.median(self._of(point, part))) for part in PARTS
            },
        )

    def _of(self, point: Point, part: str) -> np.ndarray:
        return np.array([times[part] for times in self.rounds[point]])

    def _per_flop_of_reference(self) -> np.ndarray:
        flops = self.reference.step_flops(self.setup)
        return self._of(self.reference, 'total') / flops

    def _linear(self, point: Point) -> np.ndarray:
        """Milliseconds per token, without attention and optimiser."""
        return self._layers(point) + self._rest(point)

    def _layers(self, point: Point) -> np.ndarray:
        """Milliseconds per token of all layers but attention."""
        layers = self._of(point, 'encoder') + self._of(point, 'decoder')
        layers -= self._of(point, 'attention')
        return layers / point.tokens(self.setup)[0]

    def _rest(self, point: Point) -> np.ndarray:
        """Milliseconds per token of input, targets, heads and losses."""
        return self._of(point, 'rest') / point.tokens(self.setup)[0]

    def _growth(
        self, per_token: Callable[[Point], np.ndarray]
    ) -> float | None:
        """The most that a time per token grows beyond the reference."""
        least = self.reference.tokens(self.setup)[0]
        reference = per_token(self.reference)
        return max(
            (
                float(np.median(per_token(point) / reference))
                for point in self.rounds
                if point.tokens(self.setup)[0] > least
            ),
            default=None,
        )

    def verdict(self) -> dict[str, Any]:
        """Whether anything grows faster than it should.

        Returns:
            ``slope``: of log time over log FLOPs; ``linear_slope``: of the
            log of the linear part over log tokens; ``growth``: the most that
            the linear part per token grows beyond the reference, or None if
            nothing larger was measured; ``growth_of_layers`` and
            ``growth_of_rest``: likewise, of its two parts; ``passed``:
            whether ``growth`` is within ``LIMIT``; ``text``.
        """
        rows = self.rows()
        tokens = [row['tokens'] for row in rows]
        linear = [row['linear_per_token'][1] for row in rows]
        growth = self._growth(self._linear)
        verdict: dict[str, Any] = dict(
            slope=slope(
                [row['tflop'] for row in rows], [row['ms'][1] for row in rows]
            ),
            linear_slope=slope(tokens, np.multiply(linear, tokens)),
            growth=growth,
            growth_of_layers=self._growth(self._layers),
            growth_of_rest=self._growth(self._rest),
            passed=None if growth is None else growth <= LIMIT,
        )
        return dict(verdict, text=self._text(verdict))

    def _text(self, verdict: dict[str, Any]) -> str:
        cp = 'With' if self.with_cp else 'Without'
        start = f'{cp} activation checkpointing'
        if verdict['growth'] is None:
            start += f': nothing larger than {self.reference} was measured'
        else:
            found = 'no' if verdict['passed'] else 'a'
            start += (
                f': {found} super-linear surprise. Beyond {self.reference} '
                f'the linear part takes up to {verdict["growth"]:.2f} times '
                f'as long per token (limit {LIMIT}): the layers '
                f'{verdict["growth_of_layers"]:.2f}, the rest '
                f'{verdict["growth_of_rest"]:.2f}'
            )
        return (
            f'{start}. Time grows as FLOPs to the power of '
            f'{verdict["slope"]:.2f}, the linear part as tokens to the power '
            f'of {verdict["linear_slope"]:.2f}.'
        )

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return dict(
            with_cp=self.with_cp,
            reference=str(self.reference),
            rows=self.rows(),
            verdict=self.verdict(),
            rounds={str(point): r for point, r in self.rounds.items()},
        )


def markdown(scalings: Sequence[Scaling]) -> str:
    """A table of all, how to read it, and the verdicts."""
    rows = [row for scaling in scalings for row in scaling.rows()]
    first = scalings[0]
    notes = NOTES.format(
        rounds=len(first.rounds[first.reference]), reference=first.reference
    )
    verdicts = [scaling.verdict()['text'] for scaling in scalings]
    return '\n\n'.join([Table(rows, COLUMNS).markdown(), notes, *verdicts])


COLUMNS = (
    Column('frames x size', 'name'),
    Column('tokens', 'tokens', ','),
    Column('visible', 'visible', ','),
    Column('TFLOP', 'tflop', '.3g'),
    Column('ms', 'ms', '.1f'),
    Column('GFLOP/s', 'gflop_per_second', ',.0f'),
    Column('/ TFLOP', 'relative', '.2f'),
    *(Column(part, ('parts', part), '.1f') for part in PARTS),
    Column('linear', 'linear_per_token', '.2f'),
)
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
