# Copyright (c) MotionMAE contributors. All rights reserved.
"""Figures of data paths, and tables of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .data_paths import STAGES
from .memory import LIMIT, MemoryCheck
from .table import NAME, Column, Measured, Row, Table

Round = dict[str, float]  # milliseconds per clip, by stage


@dataclass
class Speeds(Measured):
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
        local: For paths on stores, the name of the same one on plain files.
    """

    about: str
    rounds: dict[str, list[Round]]
    repeats: dict[str, int]
    stock: str
    floor: str
    differences: list[str] = field(default_factory=list)
    num_compared: int = 0
    loader: dict[str, list[float]] = field(default_factory=dict)
    local: dict[str, str] = field(default_factory=dict)

    def row(self, name: str) -> dict[str, Any]:
        """See the base class."""
        total = self.part(name, 'total')
        ratio = self.part(self.stock, 'total') / total
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
        if name in self.local:
            ratio = self.part(self.local[name], 'total') / total
            row['ratio_to_local'] = float(np.median(ratio))
            row['local_quartiles'] = np.percentile(ratio, [25, 75]).tolist()
        floor = self.part(self.floor, 'total') / self.repeats[name]
        row['ratio_to_floor'] = float(np.median(total / floor))
        reading = np.array(
            [r.get('open', 0) + r['decode'] for r in self.rounds[name]]
        )
        row['reading_to_floor'] = float(np.median(reading / floor))
        if name in self.loader and name in self.local:
            ratio = np.array(self.loader[name]) / np.array(
                self.loader[self.local[name]]
            )
            row['loader_ratio_to_local'] = float(np.median(ratio))
        if name in self.loader:
            rate = np.array(self.loader[name])
            ratio = rate / np.array(self.loader[self.stock])
            row['loader_clips_per_second'] = float(np.median(rate))
            row['loader_ratio_to_stock'] = float(np.median(ratio))
            row['loader_ratio_quartiles'] = np.percentile(
                ratio, [25, 75]
            ).tolist()
        return row

    def markdown(self) -> str:
        """A table, with what must be known to read it."""
        table = Table(self.rows(), COLUMNS).markdown()
        parts = [f'**{self.about}**', table]
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


def _ratio(middle: str, ends: str) -> Callable[[Row], list[float] | None]:
    """Quartiles of a row that has the median and the other two apart."""

    def find(row: Row) -> list[float] | None:
        if middle not in row:
            return None
        return [row[ends][0], row[middle], row[ends][1]]

    return find


COLUMNS = (
    NAME,
    Column('clips/s', 'clips_per_second', '.1f'),
    Column('ms/clip', 'ms_per_clip', '.2f'),
    Column('x stock', _ratio('ratio_to_stock', 'ratio_quartiles'), '.2f'),
    Column(
        'x plain files',
        _ratio('ratio_to_local', 'local_quartiles'),
        '.2f',
        optional=True,
    ),
    *(Column(stage, ('split', stage), '.2f') for stage in STAGES),
    Column('/ floor', 'ratio_to_floor', '.2f'),
    Column('open + decode / floor', 'reading_to_floor', '.2f'),
    Column('loader, clips/s', 'loader_clips_per_second', '.1f', optional=True),
    Column(
        'loader, x stock',
        _ratio('loader_ratio_to_stock', 'loader_ratio_quartiles'),
        '.2f',
        optional=True,
    ),
    Column(
        'loader, x plain files',
        'loader_ratio_to_local',
        '.2f',
        optional=True,
    ),
)
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

    def samples(row: Row) -> int:
        return len(row['rss']) * row['every']

    columns = [
        NAME,
        Column('samples', samples, ','),
        Column('first quarter, MB', 'first_quarter', _megabytes),
        Column('last quarter, MB', 'last_quarter', _megabytes),
        Column('growth', 'growth', '+.2%'),
        Column(f'within {LIMIT:.0%}', 'steady', _yes_or_no),
    ]
    rows = [check.as_dict() for check in checks]
    return '\n\n'.join(
        [
            '**Memory of a loader process**, looked at every '
            f'{checks[0].every} samples; means of the first and the last '
            'quarter after a warm-up of a tenth',
            Table(rows, columns).markdown(),
        ]
    )


def _megabytes(size: float) -> str:
    return f'{size / 1e6:.1f}'


def _yes_or_no(value: bool) -> str:
    return 'yes' if value else 'no'
