# Copyright (c) MotionMAE contributors. All rights reserved.
"""Which side limits training, and how many cores a loader needs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .table import Column, Row, Table, quartiles
from .training_setup import Setting

SLACK = 0.1  # two speeds that differ by less count as the same

NOTES = (
    'R: clips made of a video once it is decoded. All speeds in clips per '
    'second, median and quartiles; each measured alone, but for the trainer, '
    "which is MMEngine's runner with loader, model and all hooks of the "
    'config. waiting: share of its time in which the trainer had no data. per '
    'core: speed of the loader over its processes, or over the cores where '
    'these are fewer. Cores: what a loader needs to be as fast as the model '
    'here{wanted}; one more is busy with the training itself.'
)


@dataclass(frozen=True)
class Figures:
    """What was measured with one setting; empty or None: it was not.

    Attributes:
        setting: Repeats and workers.
        clips_per_step: Clips in a batch.
        cpus: Cores that there are.
        shared_cpus: Whether the model runs on the same cores as the loader.
        wanted: Clips per second of a device that is to be fed, if given.
        loader: Clips per second of each burst of batches.
        model: Clips per second of each training step.
        trainer: Clips per second.
        waiting: Share of the time in which the trainer waited for data.
    """

    setting: Setting
    clips_per_step: int
    cpus: int
    shared_cpus: bool = False
    wanted: float | None = None
    loader: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    trainer: float | None = None
    waiting: float | None = None

    @property
    def loader_speed(self) -> float | None:
        """Clips per second, the median."""
        return float(np.median(self.loader)) if self.loader else None

    @property
    def model_speed(self) -> float | None:
        """Clips per second, the median."""
        return float(np.median(self.model)) if self.model else None

    @property
    def per_core(self) -> float | None:
        """Clips per second that one core loads."""
        if self.loader_speed is None:
            return None
        busy = min(max(self.setting.num_workers, 1), self.cpus)
        return self.loader_speed / busy

    def cores_for(self, clips_per_second: float | None) -> int | None:
        """Cores that load so many clips per second."""
        if self.per_core is None or clips_per_second is None:
            return None
        # Rounded first: 3 * 0.1 / 0.1 is three cores, not four.
        return math.ceil(round(clips_per_second / self.per_core, 6))

    @property
    def bottleneck(self) -> str | None:
        """``'data'``, ``'model'`` or ``'neither'``; None: not known."""
        data, model = self.loader_speed, self.model_speed
        if data is None or model is None:
            return None
        if data < model * (1 - SLACK):
            return 'data'
        return 'model' if model < data * (1 - SLACK) else 'neither'

    @property
    def share_of_limit(self) -> float | None:
        """Speed of the trainer over that of the slower side."""
        data, model = self.loader_speed, self.model_speed
        if data is None or model is None or self.trainer is None:
            return None
        return self.trainer / min(data, model)

    def verdict(self) -> str:
        """What limits, in a sentence or two; empty if that is not known."""
        side, share = self.bottleneck, self.share_of_limit
        if side is None:
            return ''
        workers = self.setting.num_workers
        text = {
            'data': 'loading limits',
            'model': 'the model limits',
            'neither': 'loader and model are about as fast',
        }[side]
        text = (
            f'R = {self.setting.repeats}, {workers} workers: {text} (loader '
            f'{self.loader_speed:.1f}, model {self.model_speed:.1f} clips/s)'
        )
        if share is None:
            return f'{text}.'
        text += f'; the trainer reaches {share:.0%} of the slower side'
        if share < 1 - SLACK and not workers:
            text += ' (one process loads and trains in turn)'
        elif share < 1 - SLACK and self.shared_cpus:
            text += ' (here both run on the same cores)'
        return f'{text}.'

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return dict(
            asdict(self),
            loader_speed=self.loader_speed,
            model_speed=self.model_speed,
            per_core=self.per_core,
            cores_for_model=self.cores_for(self.model_speed),
            cores_for_wanted=self.cores_for(self.wanted),
            bottleneck=self.bottleneck,
            share_of_limit=self.share_of_limit,
            verdict=self.verdict(),
        )


def markdown(figures: Sequence[Figures]) -> str:
    """A table with a row for each setting, and the verdicts."""
    wanted = figures[0].wanted
    columns = [*COLUMNS]
    note = ''
    if wanted is not None:
        title = f'cores for {wanted:g} clips/s'
        columns.append(Column(title, 'cores_for_wanted'))
        note = f', or {wanted:g} clips per second'
    table = Table([one.as_dict() for one in figures], columns).markdown()
    verdicts = [*map(Figures.verdict, figures), feeding(figures)]
    lines = [f'- {text}' for text in verdicts if text]
    parts = [table, NOTES.format(wanted=note)]
    if lines:
        parts.append('\n'.join(lines))
    return '\n\n'.join(parts)


def feeding(figures: Sequence[Figures]) -> str:
    """How many cores feed the device, with each R; empty: not known.

    The device is the one that is wanted, or else the one here.
    """
    fewest: dict[int, int] = {}
    speed = max(one.wanted or one.model_speed or 0 for one in figures)
    for one in figures:
        cores = one.cores_for(speed or None)
        if cores is not None:
            repeats = one.setting.repeats
            fewest[repeats] = min(cores, fewest.get(repeats, cores))
    if not fewest:
        return ''
    ways = ' or '.join(f'{n} with R = {r}' for r, n in fewest.items())
    return (
        f'To feed {speed:.4g} clips/s a loader needs this many cores: '
        f'{ways}; there are {figures[0].cpus} here.'
    )


def _speed(side: str) -> Callable[[Row], list[float] | None]:
    return lambda row: quartiles(row[side]) if row[side] else None


COLUMNS = (
    Column('R', ('setting', 'repeats')),
    Column('workers', ('setting', 'num_workers')),
    Column('clips a step', 'clips_per_step'),
    Column('loader', _speed('loader'), '.1f'),
    Column('per core', 'per_core', '.1f'),
    Column('model', _speed('model'), '.1f'),
    Column('trainer', 'trainer', '.1f'),
    Column('waiting', 'waiting', '.0%'),
    Column('bottleneck', 'bottleneck'),
    Column('cores for this model', 'cores_for_model'),
)
