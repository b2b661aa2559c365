# Copyright (c) MotionMAE contributors. All rights reserved.
"""The report on a work dir."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmmotionmae.cli.splits import last_metrics
from mmmotionmae.engine.hooks.bad_videos_hook import FILENAME as BAD_VIDEOS
from mmmotionmae.utils import run_folder

from .drawing import Panel, embed_pictures, plot_panel
from .logs import Log, Row, Setting, read_log, read_setting
from .page import write_page

TEMPLATE = Path(__file__).with_name('work_dir.html.jinja')
MOST_LISTED = 50  # bad videos
MOST_PICTURES = 8
RECENT = 20  # rows that a speed is the mean of

_PLACE = ('step', 'iter', 'epoch')
_SPEED = ('time', 'data_time')
_OWN = (*_PLACE, *_SPEED, 'lr', 'base_lr')  # not a panel each


def write_report(
    work_dir: Path, path: Path, refresh: int | None = None
) -> tuple[str, bool]:
    """Write the report on what a work dir holds now.

    Args:
        work_dir: Of this package, or of MMAction2 or MMEngine.
        path: The file, replaced if it exists.
        refresh: Seconds after which a browser loads it anew, until the
            training is done.

    Returns:
        A line that says what there is, and whether the training is done.
    """
    log = read_log(work_dir)
    setting = read_setting(log.folder) if log.folder else Setting()
    text = state_of(log, setting)
    write_page(
        path,
        TEMPLATE,
        title=f'Report: {work_dir.resolve().name}',
        lead=text,
        versions=str(work_dir),
        refresh=None if setting.is_done else refresh,
        facts=facts_of(work_dir, log, setting),
        warnings=list(warnings_of(work_dir, log)),
        plots=[plot_panel(panel) for panel in panels_of(log, setting)],
        has_r2=any(key.startswith('r2_') for key in _keys(log.train)),
        validation=validation_of(log),
        tests=tests_of(work_dir),
        pictures=embed_pictures(pictures_of(work_dir)),
        bad=bad_videos_of(work_dir),
        environment=setting.environment,
        config=setting.config,
    )
    return text, setting.is_done


def state_of(log: Log, setting: Setting) -> str:
    """A line: how far the training is."""
    if not log.train and not log.val:
        return (
            'Nothing has been logged yet: there is no vis_data/scalars.json '
            "of MMEngine's LocalVisBackend."
        )
    last = (log.train or log.val)[-1]
    unit = 'Step' if log.train or not log.by_epoch else 'Epoch'
    text = f'{unit} {last["step"]:,.0f}'
    if 'epoch' in last:
        text += f', epoch {last["epoch"]:.0f}'
    if setting.is_done:
        return f'{text}; done'
    if setting.position is not None:
        text += f'; {setting.position:.0%} done'
    if setting.left:
        text += f', {setting.left} left when that was logged'
    return text


def facts_of(
    work_dir: Path, log: Log, setting: Setting
) -> list[tuple[str, str]]:
    """Names and values for the first table."""
    facts = []
    if log.train:
        last = log.train[-1]
        facts += [
            (key, f'{value:.4g}')
            for key, value in last.items()
            if key not in (*_PLACE, *_SPEED, 'base_lr')
        ]
        recent = log.train[-RECENT:]
        seconds = [row['time'] for row in recent if row.get('time')]
        if seconds:
            mean = float(np.mean(seconds))
            facts.append(('seconds per step', f'{mean:.3g}'))
            if setting.batch_size:
                speed = f'{setting.batch_size / mean:.3g}'
                facts.append(('samples per second', speed))
        shares = [share for _, share in _waits(recent)]
        if shares:
            facts.append(('waiting for the loader', f'{np.mean(shares):.0%}'))
    if setting.batch_size:
        facts.append(('samples per step', str(setting.batch_size)))
    if log.starts:
        places = ', '.join(f'{start:,.0f}' for start in log.starts)
        facts.append(('went on at step', places))
    checkpoint = run_folder.last_checkpoint(work_dir)
    if checkpoint:
        facts.append(('last checkpoint', Path(checkpoint).name))
    return facts


def warnings_of(work_dir: Path, log: Log) -> Iterable[str]:
    """Lines on what went wrong."""
    for rows, where in ((log.train, 'step'), (log.val, 'validation')):
        for key in _keys(rows):
            values = [(r['step'], r[key]) for r in rows if key in r]
            off = [step for step, value in values if not np.isfinite(value)]
            if off:
                yield (
                    f'{key} is not finite in {len(off)} of {len(values)} '
                    f'logged values, first at {where} {off[0]:,.0f}.'
                )
    for path in sorted(work_dir.glob('not_finite_iter_*.json')):
        yield f'{path.name} tells what was not finite, and where.'
    bad = bad_videos_of(work_dir)
    if bad['number']:
        yield f'{bad["number"]} videos could not be loaded; listed below.'


def panels_of(log: Log, setting: Setting) -> list[Panel]:
    """The plots: losses, R², learning rate, speed, others, validation."""
    rows, keys = log.train, _keys(log.train)
    losses = [key for key in keys if 'loss' in key]
    scores = [key for key in keys if key.startswith('r2_')]
    panels = [_panel('Loss', rows, losses)] if losses else []
    names: dict[str, list[str]] = {}
    for key in scores:  # the name of a target may have underscores
        prefixes = [n for n in names if f'{key}_'.startswith(f'{n}_')]
        names.setdefault(prefixes[0] if prefixes else key, []).append(key)
    panels += [
        _panel(f'R² of {name.removeprefix("r2_")}', rows, found, zero=True)
        for name, found in names.items()
    ]
    rates = [key for key in ('lr', 'base_lr') if key in keys]
    if rates:
        same = all(row.get('lr') == row.get('base_lr') for row in rows)
        chosen = rates[:1] if same else rates
        panels.append(_panel('Learning rate', rows, chosen, bottom=0))
    size = setting.batch_size
    speeds = [
        (row['step'], (size or 1) / row['time'])
        for row in rows
        if row.get('time')
    ]
    if speeds:
        title = f'{"Samples" if size else "Steps"} per second'
        panels.append(Panel(title, {title: speeds}, bottom=0))
    waits = [(step, 100 * share) for step, share in _waits(rows)]
    if waits:
        title = 'Waiting for the loader (%)'
        panels.append(Panel(title, {title: waits}, bottom=0))
    taken = {*losses, *scores, *_OWN}
    panels += [
        _panel(key.replace('_', ' '), rows, [key])
        for key in keys
        if key not in taken
    ]
    panels = [Panel(**{**vars(p), 'marks': log.starts}) for p in panels]
    groups: dict[str, list[str]] = {}
    for key in _keys(log.val):
        if key not in (*_PLACE, *_SPEED):
            groups.setdefault(key.partition('/')[0], []).append(key)
    unit = 'epoch' if log.by_epoch else 'step'
    panels += [
        _panel(f'Validation: {name}', log.val, found, xlabel=unit)
        for name, found in groups.items()
    ]
    return panels


def _panel(
    title: str, rows: Sequence[Row], keys: Sequence[str], **options: Any
) -> Panel:
    lines = {
        key: [(row['step'], row[key]) for row in rows if key in row]
        for key in keys
    }
    return Panel(title, lines, **options)


def _keys(rows: Sequence[Row]) -> list[str]:
    """All that is logged but the step, in the order of its first line."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [key for key in keys if key not in _PLACE]


def _waits(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Step, and the share of its time that it waits for the loader."""
    return [
        (row['step'], row['data_time'] / row['time'])
        for row in rows
        if row.get('time') and 'data_time' in row
    ]


def validation_of(log: Log) -> list[list[str]]:
    """Of each metric its last, least and largest value, and where these were.

    Values that are not finite count as the last alone.
    """
    table = []
    for key in _keys(log.val):
        if key in _SPEED:
            continue
        values = [(row[key], row['step']) for row in log.val if key in row]
        finite = [one for one in values if np.isfinite(one[0])]
        ends: list[Callable[..., tuple[float, float]]] = [min, max]
        found = [values[-1], *(end(finite) for end in ends if finite)]
        cells = [f'{value:.4g} (at {step:,.0f})' for value, step in found]
        table.append([key, *cells, *([''] * (3 - len(cells)))])
    return table


def tests_of(work_dir: Path) -> list[list[str]]:
    """Metrics of the last test in this folder, if there is one."""
    try:
        metrics = last_metrics(work_dir)
    except (FileNotFoundError, ValueError):
        return []
    return [
        [key, f'{value:.4g}' if isinstance(value, float) else str(value)]
        for key, value in metrics.items()
        if key not in _SPEED
    ]


def bad_videos_of(work_dir: Path) -> dict[str, Any]:
    """Number of bad videos, and the first of them with the reasons."""
    path = work_dir / BAD_VIDEOS
    lines = path.read_text('utf-8').splitlines() if path.is_file() else []
    rows = [line.partition('\t')[::2] for line in lines]
    return dict(number=len(rows), rows=rows[:MOST_LISTED], file=BAD_VIDEOS)


def pictures_of(work_dir: Path) -> list[tuple[str, Path]]:
    """The newest picture of each name that the visualizer has saved.

    Of the first name the earliest one stands before it, to compare with.
    """
    found: dict[str, dict[int, Path]] = {}
    for pattern in ('vis_data', '*/vis_data'):
        for path in sorted(work_dir.glob(f'{pattern}/vis_image/*.png')):
            match = re.fullmatch(r'(.+)_(\d+)', path.stem)
            if match:
                found.setdefault(match[1], {})[int(match[2])] = path
    pictures: list[tuple[str, Path]] = []
    for name in sorted(found)[:MOST_PICTURES]:
        steps = sorted(found[name])
        chosen = {steps[0], steps[-1]} if not pictures else {steps[-1]}
        pictures += [
            (f'{name}, step {step:,}', found[name][step])
            for step in sorted(chosen)
        ]
    return pictures
