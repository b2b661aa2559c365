# Copyright (c) MotionMAE contributors. All rights reserved.
"""Figures of the model benchmark, and tables of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from benchmark_figures import quartiles, spread, table
from model_memory import Memory
from model_steps import STAGES
from model_timing import WARM_UP, Round

MB = 1e6


@dataclass
class Measured:
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

    def rows(self) -> list[dict[str, Any]]:
        """The figures of each contender."""
        return [self._row(name) for name in self.rounds]

    def _row(self, name: str) -> dict[str, Any]:
        total = self._times(name)
        middle = float(np.median(total))
        tflop = self.flops[name] / 1e12
        tflops = tflop / (middle / 1e3)
        memory = self.memory.get(name)
        return dict(
            name=name,
            ms=quartiles(total.tolist()),
            split={
                stage: float(np.median([r[stage] for r in self.rounds[name]]))
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
            other: quartiles((self._times(other, optimiser) / own).tolist())
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
        parts = [f'**{self.about}**', self._speed_table(rows)]
        parts.append(self._work_table(rows))
        return '\n\n'.join(parts)

    def _speed_table(self, rows: list[dict[str, Any]]) -> str:
        stages = [stage for stage in STAGES if stage in rows[0]['split']]
        trains = 'optimiser' in stages
        head = ['', 'ms/step', *(stages if trains else []), 'clips/s']
        head += [f'x {name}' for name in self.references]
        if trains:
            head += [
                f'x {name}, without optimiser' for name in self.references
            ]
        body = []
        for row in rows:
            cells = [row['name'], spread(row['ms'], 0)]
            if trains:
                cells += [f'{row["split"][stage]:.0f}' for stage in stages]
            cells.append(f'{row["clips_per_second"]:.2f}')
            cells += [spread(ratio) for ratio in row['ratios'].values()]
            if trains:
                cells += [
                    spread(ratio)
                    for ratio in row['ratios_without_optimiser'].values()
                ]
            body.append(cells)
        return table(head, body)

    def _work_table(self, rows: list[dict[str, Any]]) -> str:
        head = ['', 'TFLOP/step', 'TFLOP/s', 'MFU']
        resident = any(m.resident is not None for m in self.memory.values())
        if self.memory:
            head.append('memory, MB')
        if resident:
            head.append('resident memory, MB')
        compiled = any(row['compile_seconds'] is not None for row in rows)
        if compiled:
            head.append('compiling, s')
        body = []
        for row in rows:
            cells = [row['name'], f'{row["tflop"]:.3f}']
            cells += [f'{row["tflops"]:.3f}', f'{row["mfu"]:.0%}']
            memory = row['memory'] or {}
            if self.memory:
                cells.append(_megabytes(memory.get('tensors')))
            if resident:
                cells.append(_megabytes(memory.get('resident')))
            if compiled:
                seconds = row['compile_seconds']
                cells.append('' if seconds is None else f'{seconds:.0f}')
            body.append(cells)
        return table(head, body)


def _megabytes(size: int | None) -> str:
    return '' if size is None else f'{size / MB:.0f}'


NOTES = (
    'In every round every contender takes one step on the same input, in '
    'turn. ms/step: median and quartiles. x: times as fast; medians and '
    'quartiles of the ratios within a round. TFLOP: of matrix products. MFU: '
    'share of {peak:.3f} TFLOP/s ({source}). Memory: what a step adds at its '
    'peak to weights, optimiser state and input, in a process of its own.'
)
