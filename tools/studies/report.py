# Copyright (c) MotionMAE contributors. All rights reserved.
"""Tables of a study, from its records alone."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config

from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.files import complete_file

from .cells import Record
from .plan import MASKS
from .statistics import Estimate, Values, bootstrap

BLOCK = re.compile(
    r'(<!-- table: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(<!-- end -->)', re.S
)


# With fewer, all of the same sign, a sign test's two-sided p is above 0.05.
MIN_CLUSTERS = 6


class Outcome(NamedTuple):
    """All results of an arm on a task.

    Attributes:
        values: (P, R, V): pre-trainings, runs of each, test items.
        seeds: (P, ), of the pre-trainings: ``seed0``.
        runs: (R, ), of the runs of each: ``seed0``.
        clusters: (V, ).
        labels: (V, ), of videos.
    """

    values: Values
    seeds: Sequence[str]
    runs: Sequence[str]
    clusters: Sequence[str]
    labels: Sequence[str] = ()


Outcomes = dict[tuple[str, str, str], Outcome]


def collect(records: Mapping[str, Record], kind: str) -> Outcomes:
    """Results of all arms, by domain, arm and task.

    Pre-trainings that lack a run which others have are left out, so that the
    values make a block.
    """
    found: dict[tuple[str, str, str], dict[str, dict[str, Record]]] = (
        defaultdict(lambda: defaultdict(dict))
    )
    for name, record in records.items():
        first, *rest = name.split('/')
        if first != kind or len(rest) < 4:
            continue
        domain, arm, seed, task, *run = rest
        found[domain, arm, task][seed]['/'.join(run)] = record
    outcomes = {}
    for key, seeds in found.items():
        names = max(map(sorted, seeds.values()), key=len)
        whole = [seed for seed in seeds if sorted(seeds[seed]) == names]
        whole.sort(key=lambda seed: (len(seed), seed))
        values: list[list[list[float]]] = []
        items: tuple[list, list, list] = ([], [], [])
        for runs in (seeds[seed] for seed in whole):
            each = [_items(runs[run]['result']) for run in names]
            values.append([value for value, *_ in each])
            items = each[0]
        outcomes[key] = Outcome(
            100.0 * np.array(values, np.float64), whole, names, *items[1:]
        )
    return outcomes


def _values_of(
    first: Outcome, second: Outcome, crossed: bool
) -> tuple[Values, Values] | None:
    """Those to compare: of draws of the labels, of those that both have.

    Returns:
        None if there are none.
    """
    if not crossed:
        return first.values, second.values
    shared = {*first.runs} & {*second.runs}
    if not shared:
        return None
    sides = [
        outcome.values[:, [run in shared for run in outcome.runs]]
        for outcome in (first, second)
    ]
    return sides[0], sides[1]


def _items(
    result: Mapping[str, Any],
) -> tuple[list[float], list[str], list[str]]:
    """Value, cluster and, of videos, label of each test item."""
    if 'hits' in result:
        clusters, labels = (
            result[key].split(' ') for key in ('clusters', 'labels')
        )
        return [float(hit) for hit in result['hits']], clusters, labels
    objects = result['objects']
    names = sorted(objects)
    return (
        [sum(objects[name]) / 2 for name in names],
        [name.rpartition('_')[0] for name in names],
        [],
    )


class Report:
    """The tables of a study.

    Args:
        cfg: Its plan.
        records: Its records, by name.
    """

    def __init__(self, cfg: Config, records: Mapping[str, Record]) -> None:
        self.cfg, self.records = cfg, records
        self.kinds = {
            kind: collect(records, kind)
            for kind in ('finetune', 'linear', 'vos')
        }

    def tables(self) -> dict[str, str]:
        """All tables, in Markdown, by name."""
        tables = {
            kind: self._means(kind, list(self.cfg.arms)) for kind in self.kinds
        }
        tables['differences'] = self._differences()
        tables['classes'] = self._classes()
        tables['reconstruction'] = self._reconstruction()
        tables['factors'] = self._factors()
        tables['cells'] = self._cells()
        return tables

    def tasks(self, kind: str) -> list[str]:
        """The tasks that there are results of, in the order of the plan."""
        order = [*self.cfg.tasks, *self.cfg.get('segmentation', {})]
        present = {task for _, _, task in self.kinds[kind]}
        return [task for task in order if task in present]

    def _means(self, kind: str, arms: Sequence[str]) -> str:
        tasks = self.tasks(kind)
        rows = []
        for domain in ('none', *self.cfg.domains):
            for arm in arms:
                cells, runs = [], ''
                for task in tasks:
                    outcome = self.kinds[kind].get((domain, arm, task))
                    if outcome is None:
                        cells.append('–')
                        continue
                    runs = '{} × {}'.format(*outcome.values.shape[:2])
                    cells.append(
                        self._estimate(task, outcome.values, outcome.clusters)
                    )
                if runs:
                    rows.append([domain, arm, runs, *cells])
        if kind == 'linear':
            rows.append(
                ['–', 'frame differences', '–']
                + [self._baseline(task) for task in tasks]
            )
        return markdown(['pre-trained on', 'arm', 'runs', *tasks], rows)

    def _baseline(self, task: str) -> str:
        found = [
            _items(record['result'])
            for name, record in sorted(self.records.items())
            if name.split('/')[:2] == ['differences', task]
        ]
        if not found:
            return '–'
        values = 100.0 * np.array([[hits for hits, *_ in found]], np.float64)
        return self._estimate(task, values, found[0][1])

    def _estimate(
        self, task: str, values: Values, clusters: Sequence[str]
    ) -> str:
        return _interval(
            bootstrap(values, None, clusters, self._are_crossed(task))
        )

    def _are_crossed(self, task: str) -> bool:
        """Whether runs are draws of the labels, the same for all arms."""
        return 'fraction' in self.cfg.tasks.get(task, {})

    def _differences(self) -> str:
        every = [*self.cfg.tasks, *self.cfg.get('segmentation', {})]
        done = {task for kind in self.kinds for task in self.tasks(kind)}
        tasks = [task for task in every if task in done]
        rows = []
        for kind, outcomes in self.kinds.items():
            for domain in self.cfg.domains:
                for first, second in self.cfg.contrasts:
                    cells = []
                    for task in tasks:
                        pair = [
                            outcomes.get((domain, arm, task))
                            or outcomes.get(('none', arm, task))
                            for arm in (first, second)
                        ]
                        if pair[0] is None or pair[1] is None:
                            cells.append('–')
                            continue
                        crossed = self._are_crossed(task)
                        sides = _values_of(pair[0], pair[1], crossed)
                        if sides is None:
                            cells.append('–')
                            continue
                        estimate = bootstrap(*sides, pair[0].clusters, crossed)
                        told = len({*pair[0].clusters}) >= MIN_CLUSTERS
                        cells.append(_interval(estimate, True, told))
                    if set(cells) != {'–'}:
                        rows.append(
                            [kind, domain, f'{first} − {second}', *cells]
                        )
        return markdown(['by', 'pre-trained on', 'difference', *tasks], rows)

    def _classes(self) -> str:
        """Accuracy of each class, of tasks whose classes have names."""
        columns = [
            (kind, task, number, name)
            for kind in ('finetune', 'linear')
            for task in self.tasks(kind)
            for number, name in enumerate(
                self.cfg.tasks[task].get('classes', ())
            )
        ]
        rows = []
        for domain in ('none', *self.cfg.domains):
            for arm in self.cfg.arms:
                cells = []
                for kind, task, number, _ in columns:
                    outcome = self.kinds[kind].get((domain, arm, task))
                    value = '–'
                    if outcome:
                        inside = np.array(outcome.labels) == str(number)
                        value = f'{outcome.values[..., inside].mean():.0f}'
                    cells.append(value)
                if set(cells) - {'–'}:
                    rows.append([domain, arm, *cells])
        head = [f'{kind} {task}: {name}' for kind, task, _, name in columns]
        return markdown(['pre-trained on', 'arm', *head], rows)

    def _reconstruction(self) -> str:
        keys = self._shares()
        found: dict[tuple[str, str, str], list[Mapping[str, float]]] = (
            defaultdict(list)
        )
        for name, record in self.records.items():
            kind, *rest = name.split('/')
            if kind == 'reconstruct':
                for mask, shares in record['result'].items():
                    found[rest[0], rest[1], mask].append(shares)
        rows = []
        for (domain, arm, mask), results in sorted(found.items()):
            row = [domain, arm, mask, str(len(results))]
            for key in keys:
                for end in ('', '_oracle'):
                    values = [r[key + end] for r in results if key + end in r]
                    row.append(f'{np.mean(values):.3f}' if values else '–')
            rows.append(row)
        head = [
            title for key in keys for title in (f'`{key}`', 'interpolation')
        ]
        return markdown(
            ['pre-trained on', 'arm', 'masks', 'seeds', *head], rows
        )

    def _factors(self) -> str:
        rows = []
        keys = [key for key in self._shares() if not key.endswith('_moving')]
        # Also those that are recorded, but of another plan.
        trained = [
            name.split('/')
            for name in self.records
            if name.startswith('pretrain/')
        ]
        arms = [*self.cfg.arms, *self.cfg.get('factors', {})]
        arms += sorted({arm for _, _, arm, _ in trained})
        for domain in self.cfg.domains:
            for arm in dict.fromkeys(arms):
                row = [domain, arm]
                record = self.records.get(f'reconstruct/{domain}/{arm}/seed0')
                result: dict[str, float] = {}
                if record:
                    result = record['result'].get(self._mask_of(arm), {})
                row += [
                    f'{result[key]:.3f}' if key in result else '–'
                    for key in keys
                ]
                for kind in self.kinds:
                    for task in self.tasks(kind):
                        outcome = self.kinds[kind].get((domain, arm, task))
                        value = '–'
                        if outcome and 'seed0' in outcome.seeds:
                            first = outcome.seeds.index('seed0')
                            value = f'{outcome.values[first].mean():.1f}'
                        row.append(value)
                if set(row[2:]) != {'–'}:
                    rows.append(row)
        head = [f'R² {key.removeprefix("r2_")}' for key in keys] + [
            f'{kind} {task}'
            for kind in self.kinds
            for task in self.tasks(kind)
        ]
        return markdown(['pre-trained on', 'arm', *head], rows)

    def _shares(self) -> list[str]:
        """What is known of R², pixels and motion before other targets."""
        usual = ['r2_pixel', 'r2_motion', 'r2_motion_moving']
        results = [
            shares
            for name, record in self.records.items()
            if name.startswith('reconstruct/')
            for shares in record['result'].values()
        ]
        others = {
            key
            for shares in results
            for key in shares
            if key.startswith('r2_') and not key.endswith('_oracle')
        }
        return usual + sorted(others - {*usual})

    def _mask_of(self, arm: str) -> str:
        """The mask that an arm is trained with."""
        every = {**self.cfg.arms, **self.cfg.get('factors', {})}
        changes = every.get(arm) or {}
        return next(
            (v for v in changes.values() if str(v).endswith('Masking')),
            MASKS[0],
        )

    def _cells(self) -> str:
        kinds: dict[str, list[float]] = defaultdict(list)
        for record in self.records.values():
            kinds[record['kind']].append(record['seconds'])
        rows = [
            [
                kind,
                str(len(seconds)),
                f'{np.median(seconds):.0f}',
                f'{sum(seconds) / 3600:.1f}',
            ]
            for kind, seconds in sorted(kinds.items())
        ]
        return markdown(
            ['cell', 'number', 'median seconds', 'core-hours in all'], rows
        )


def _interval(
    estimate: Estimate, signed: bool = False, told: bool = False
) -> str:
    sign = '+' if signed else ''
    text = (
        f'{estimate.value:{sign}.1f} [{estimate.low:{sign}.1f}, '
        f'{estimate.high:{sign}.1f}]'
    )
    if told and (estimate.low > 0 or estimate.high < 0):
        return f'**{text}**'
    return text


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ['---'] * len(head), *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def write_page(path: Path, tables: Mapping[str, str]) -> None:
    """Write a page of all tables and plots."""
    parts = [
        '# Study\n',
        '![curves](curves.png)\n',
        '![results](results.png)\n',
    ]
    for name, table in tables.items():
        parts.append(
            f'## {name.capitalize()}\n\n<!-- table: {name} -->\n\n{table}\n'
            '<!-- end -->\n'
        )
    with complete_file(path) as temporary:
        temporary.write_text('\n'.join(parts))


def update_page(path: Path, tables: Mapping[str, str]) -> None:
    """Put tables in their places in a page.

    Args:
        path: A page with lines ``<!-- table: NAME -->`` and ``<!-- end -->``,
            between which a table goes.
        tables: By name.

    Raises:
        UsageError: If the page names a table that there is not.
    """

    def fill(match: re.Match[str]) -> str:
        if match['name'] not in tables:
            raise UsageError(
                f'{path} asks for a table {match["name"]!r}; there are '
                f'{", ".join(tables)}.'
            )
        return f'{match[1]}\n{tables[match["name"]]}\n{match[4]}'

    with complete_file(path) as temporary:
        temporary.write_text(BLOCK.sub(fill, path.read_text()))
