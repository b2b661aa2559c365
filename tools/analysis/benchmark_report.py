# Copyright (c) MotionMAE contributors. All rights reserved.
"""Figures of the benchmark, and tables of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from benchmark_figures import spread, table
from benchmark_memory import LIMIT, MemoryCheck
from benchmark_pipelines import STAGES

Round = dict[str, float]  # milliseconds per clip, by stage


@dataclass
class Measured:
    """What was measured on one source.

    Attributes:
        about: The source.
        rounds: For each data path or floor, its rounds.
        repeats: Clips per sample of each.
        stock: Name of the one that others are compared with.
        floor: Likewise.
        differences: Where tensors are not those of stock MMAction2.
        num_compared: Samples that were compared.
        loader: Clips per second out of a loader, for each data path.
    """

    about: str
    rounds: dict[str, list[Round]]
    repeats: dict[str, int]
    stock: str
    floor: str
    differences: list[str] = field(default_factory=list)
    num_compared: int = 0
    loader: dict[str, list[float]] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """The figures of each data path."""
        return [self._row(name) for name in self.rounds]

    def _row(self, name: str) -> dict[str, Any]:
        total = self._totals(name)
        ratio = self._totals(self.stock) / total
        row: dict[str, Any] = dict(
            name=name,
            repeats=self.repeats[name],
            ms_per_clip=float(np.median(total)),
            clips_per_second=float(1e3 / np.median(total)),
            ratio_to_stock=float(np.median(ratio)),
            ratio_quartiles=np.percentile(ratio, [25, 75]).tolist(),
        )
        row['split'] = {
            stage: float(np.median([r[stage] for r in self.rounds[name]]))
            for stage in STAGES
            if stage in self.rounds[name][0]
        }
        floor = self._totals(self.floor) / self.repeats[name]
        row['ratio_to_floor'] = float(np.median(total / floor))
        reading = np.array(
            [r.get('open', 0) + r['decode'] for r in self.rounds[name]]
        )
        row['reading_to_floor'] = float(np.median(reading / floor))
        if name in self.loader:
            rate = np.array(self.loader[name])
            ratio = rate / np.array(self.loader[self.stock])
            row['loader_clips_per_second'] = float(np.median(rate))
            row['loader_ratio_to_stock'] = float(np.median(ratio))
            row['loader_ratio_quartiles'] = np.percentile(
                ratio, [25, 75]
            ).tolist()
        return row

    def _totals(self, name: str) -> np.ndarray:
        return np.array([r['total'] for r in self.rounds[name]])

    def markdown(self) -> str:
        """A table, with what must be known to read it."""
        rows = self.rows()
        head = ['', 'clips/s', 'ms/clip', 'x stock', *STAGES]
        head += ['/ floor', 'open + decode / floor']
        if self.loader:
            head += ['loader, clips/s', 'loader, x stock']
        body = [_cells(row, len(head)) for row in rows]
        parts = [f'**{self.about}**', table(head, body)]
        if self.differences:
            parts += [f'{text}.' for text in self.differences]
        else:
            parts.append(
                'All give the tensors that stock MMAction2 gives, bit for bit '
                f'({self.num_compared} samples compared).'
            )
        return '\n\n'.join(parts)

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return dict(
            about=self.about,
            rows=self.rows(),
            rounds=self.rounds,
            floor=self.floor,
            differences=self.differences,
            num_compared=self.num_compared,
            loader=self.loader,
        )


def _cells(row: dict[str, Any], columns: int) -> list[str]:
    cells = [
        row['name'],
        f'{row["clips_per_second"]:.1f}',
        f'{row["ms_per_clip"]:.2f}',
        _ratio(row['ratio_to_stock'], row['ratio_quartiles']),
    ]
    cells += [
        f'{row["split"][stage]:.2f}' if stage in row['split'] else ''
        for stage in STAGES
    ]
    cells += [
        f'{row[key]:.2f}' for key in ('ratio_to_floor', 'reading_to_floor')
    ]
    if 'loader_clips_per_second' in row:
        cells.append(f'{row["loader_clips_per_second"]:.1f}')
        cells.append(
            _ratio(row['loader_ratio_to_stock'], row['loader_ratio_quartiles'])
        )
    return cells + [''] * (columns - len(cells))


def _ratio(middle: float, quartiles: Sequence[float]) -> str:
    return spread((quartiles[0], middle, quartiles[1]))


NOTES = (
    'One process, one thread. "x stock": times as many clips per second; '
    'median over the rounds, in each of which all read the same spans in '
    'turn, and quartiles. The split is in milliseconds per clip: opening, '
    'decoding, everything else up to the sample, joining a batch. R: clips '
    'made of a video once it is decoded. The floor is what decoding takes '
    'alone: {floor}; for R clips a share of 1/R.'
)
VIDEO_FLOOR = (
    'PyAV opens the file, seeks to a key frame that is known beforehand and '
    'decodes to the last wanted frame, leaving out frames that are not wanted '
    'and that no other needs'
)
FRAME_FLOOR = 'OpenCV reads the wanted JPEG files, without a pipeline'


def memory_markdown(checks: Sequence[MemoryCheck]) -> str:
    """A table of memory checks."""
    body = []
    for check in checks:
        first, last = (f'{value / 1e6:.1f}' for value in check.quarters)
        growth = f'{check.growth:+.2%}'
        steady = 'yes' if check.steady else 'no'
        samples = f'{len(check.rss) * check.every:,}'
        body.append([check.name, samples, first, last, growth, steady])
    head = ['', 'samples', 'first quarter, MB', 'last quarter, MB', 'growth']
    return '\n\n'.join(
        [
            '**Memory of a loader process**, looked at every '
            f'{checks[0].every} samples; means of the first and the last '
            'quarter after a warm-up of a tenth',
            table([*head, f'within {LIMIT:.0%}'], body),
        ]
    )
