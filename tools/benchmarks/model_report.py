# Copyright (c) MotionMAE contributors. All rights reserved.
"""Figures of the model benchmark, and tables of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .memory import Memory
from .steps import STAGES, WARM_UP, Round
from .table import MEMORY, NAME, Column, Measured, Table, quartiles, ratios


@dataclass
class Steps(Measured):
    """What was measured in one mode at one size.

    Attributes:
        mode: ``'pretrain'``, ``'finetune'`` or ``'features'``.
        about: Size and input, for a reader.
        batch_size: Clips of a step.
        rounds: For each contender its rounds.
        warm_up: For each contender its seconds of warming up.
        flops: For each contender the FLOPs of a step.
        references: Contenders that all are compared with.
        peak: What the machine can do, in TFLOP/s.
        memory: For each contender what a step adds; empty: not measured.
    """

    mode: str
    about: str
    batch_size: int
    rounds: dict[str, list[Round]]
    warm_up: dict[str, float]
    flops: dict[str, int]
    references: Sequence[str]
    peak: float
    memory: Mapping[str, Memory] = field(default_factory=dict)

    def row(self, name: str) -> dict[str, Any]:
        """See the base class."""
        total = self._times(name)
        middle = float(np.median(total))
        tflop = self.flops[name] / 1e12
        tflops = tflop / (middle / 1e3)
        memory = self.memory.get(name)
        return dict(
            name=name,
            ms=quartiles(total),
            split={
                stage: float(np.median(self.part(name, stage)))
                for stage in STAGES
                if stage in self.rounds[name][0]
            },
            clips_per_second=1e3 * self.batch_size / middle,
            ratios=self._ratios(name, True),
            ratios_without_optimiser=self._ratios(name, False),
            tflop=tflop,
            tflops=tflops,
            mfu=tflops / self.peak,
            memory=memory.as_dict() if memory else None,
            compile_seconds=self._compiling(name, middle / 1e3),
        )

    def _compiling(self, name: str, step: float) -> float | None:
        """Seconds of the warm-up beyond those of so many steps."""
        if not name.endswith('compiled'):
            return None
        return max(0.0, self.warm_up[name] - WARM_UP * step)

    def _ratios(self, name: str, optimiser: bool) -> dict[str, list[float]]:
        """Quartiles, for each reference, of how many times as fast it is."""
        own = self._times(name, optimiser)
        return {
            other: ratios(self._times(other, optimiser), own)
            for other in self.references
        }

    def _times(self, name: str, optimiser: bool = True) -> np.ndarray:
        """Milliseconds of each round."""
        return np.array(
            [
                r['total'] - (0 if optimiser else r.get('optimiser', 0))
                for r in self.rounds[name]
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return dict(
            mode=self.mode,
            about=self.about,
            peak_tflops=self.peak,
            references=list(self.references),
            rows=self.rows(),
            rounds=self.rounds,
        )

    def markdown(self) -> str:
        """Two tables: time and ratios; work and memory."""
        rows = self.rows()
        stages = [stage for stage in STAGES if stage in rows[0]['split']]
        trains = 'optimiser' in stages
        others = self.references
        speed = [NAME, Column('ms/step', 'ms', '.0f')]
        if trains:
            speed += [Column(s, ('split', s), '.0f') for s in stages]
        speed.append(Column('clips/s', 'clips_per_second', '.2f'))
        speed += [Column(f'x {o}', ('ratios', o), '.2f') for o in others]
        if trains:
            key = 'ratios_without_optimiser'
            speed += [
                Column(f'x {o}, without optimiser', (key, o), '.2f')
                for o in others
            ]
        tables = [Table(rows, speed), Table(rows, WORK)]
        parts = [f'**{self.about}**', *(t.markdown() for t in tables)]
        return '\n\n'.join(parts)


WORK = (
    NAME,
    Column('TFLOP/step', 'tflop', '.3f'),
    Column('TFLOP/s', 'tflops', '.3f'),
    Column('MFU', 'mfu', '.0%'),
    *MEMORY,
    Column('compiling, s', 'compile_seconds', '.0f', optional=True),
)
NOTES = (
    'In every round every contender takes one step on the same input, in '
    'turn. ms/step: median and quartiles. x: times as fast; medians and '
    'quartiles of the ratios within a round. TFLOP: of matrix products. MFU: '
    'share of {peak:.3f} TFLOP/s ({source}). Memory: what a step adds at its '
    'peak to weights, optimiser state and input, in a process of its own.'
)
