# Copyright (c) MotionMAE contributors. All rights reserved.
"""The plan for a cluster, for people: lines, and rows of a table."""

import textwrap
from typing import Any

NAMES = dict(ddp='DDP', fsdp2='FSDP2', hsdp='HSDP')
HEADS = (
    'GPUs',
    'videos x clips x accumulated',
    'GB of a GPU: DDP',
    'FSDP2',
    'HSDP',
    'computing, s a step',
    'sending, s: DDP',
    'FSDP2',
    'HSDP',
    'hours',
    'cores a node',
    'read, MB/s a node',
    '`/dev/shm`, GB a node',
    'checkpoint, GB',
)


def cluster_text(found: dict[str, Any]) -> str:
    """Write what :func:`plan` found, a fact on each line."""
    machine, batch = found['machine'], found['batch']
    rows = [
        (
            'cluster',
            f'{machine["gpus"]} GPUs, {machine["per_node"]} a node, '
            f'{machine["nodes"]} nodes',
        ),
        (
            'split',
            f'{batch["clips"]} clips = {machine["gpus"]} GPUs x '
            f'{batch["videos"]} videos x {batch["repeats"]} clips x '
            f'{batch["accumulated"]} accumulated; the recipe has '
            f'{batch["recipe"]}, and ends at {batch["largest"]} GPUs',
        ),
        *_memory(found),
        *_time(found),
        *_data(found['data']),
        *_checkpoint(found['checkpoint']),
    ]
    lines = [f'{name:<11}{value}' for name, value in rows]
    lines += [
        textwrap.fill(f'note: {note}', 79, subsequent_indent=' ' * 6)
        for note in found['notes']
    ]
    return '\n'.join(lines)


def _memory(found: dict[str, Any]) -> list[tuple[str, str]]:
    size = found['machine']['memory']
    parts = []
    for key, used in found['memory'].items():
        fits = ''
        if size:
            fits = ' (fits)' if used['total'] <= size else ' (too much)'
        parts.append(f'{NAMES[key]} {used["total"] / 1e9:.1f}{fits}')
    of = f' of {size / 1e9:g}' if size else ''
    return [('memory', f'GB{of} on each GPU: {", ".join(parts)}')]


def _time(found: dict[str, Any]) -> list[tuple[str, str]]:
    step = found['step']
    rows = [('step', f'computing {_seconds(step)}')]
    for key, traffic in found['traffic'].items():
        line = (
            f'{NAMES[key]}: each GPU sends {traffic["sent"] / 1e9:.2f} GB, '
            f'{_seconds(traffic["seconds"])}'
        )
        if step and traffic['seconds'] is not None:
            line += f', {100 * traffic["seconds"] / step:.0f} % of computing'
        if found['hours'][key] is not None:
            line += f'; {found["hours"][key]:.1f} h in all'
        rows.append(('', line))
    return rows


def _data(data: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if data['cores'] is not None:
        rows.append(
            (
                'data',
                f'a node: {data["clips_per_second"]:.0f} clips/s, '
                f'{data["cores"]} cores ({data["clips_per_core"]:.1f} clips/s '
                f'each), reads {data["read"] / 1e6:.0f} MB/s',
            )
        )
    name = '' if rows else 'data'
    rows.append((name, f'a node: /dev/shm {data["shm"] / 1e9:.1f} GB'))
    return rows


def _checkpoint(checkpoint: dict[str, Any]) -> list[tuple[str, str]]:
    line = f'{checkpoint["bytes"] / 1e9:.2f} GB'
    if checkpoint['kept']:
        line += f', {checkpoint["kept"] / 1e9:.1f} GB kept'
    if checkpoint['seconds'] is not None:
        line += (
            f'; {_seconds(checkpoint["seconds"])} by one process, '
            f'{_seconds(checkpoint["sharded_seconds"])} by all nodes'
        )
    return [('checkpoint', line)]


def _seconds(value: float | None) -> str:
    return 'unknown' if value is None else f'{value:.3g} s'


def cluster_row(found: dict[str, Any]) -> list[str]:
    """Cells of a table with :data:`HEADS`."""
    batch, data, memory = found['batch'], found['data'], found['memory']
    split = ' x '.join(
        str(batch[key]) for key in ('videos', 'repeats', 'accumulated')
    )
    if batch['clips'] != batch['recipe']:
        split += f' = {batch["clips"]}, not {batch["recipe"]}'
    return [
        str(found['machine']['gpus']),
        split,
        *(f'{memory[key]["total"] / 1e9:.1f}' for key in NAMES),
        _cell(found['step']),
        *(_cell(found['traffic'][key]['seconds']) for key in NAMES),
        _cell(_quickest(found)),
        _cell(data['cores']),
        _cell(data['read'] and data['read'] / 1e6),
        f'{data["shm"] / 1e9:.1f}',
        f'{found["checkpoint"]["bytes"] / 1e9:.1f}',
    ]


def _quickest(found: dict[str, Any]) -> float | None:
    """Fewest hours of the ways that fit a GPU."""
    size = found['machine']['memory']
    hours = [
        value
        for key, value in found['hours'].items()
        if value is not None
        and (size is None or found['memory'][key]['total'] <= size)
    ]
    return min(hours, default=None)


def _cell(value: float | None) -> str:
    if value is None:
        return ''
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'
