# Copyright (c) MotionMAE contributors. All rights reserved.
"""The description of a config as a table for people."""

import textwrap
from typing import Any

# Estimated over measured activations, see the README.
ACCURACY = (
    'an estimate: within 6 % of measured on a CPU in float32; never '
    'compared with a GPU'
)


def text(found: dict[str, Any]) -> str:
    """Write what :func:`describe` found, a fact on each line."""
    what = found['what']
    lines = [what['config'], '']
    rows = [('what', _what(what))]
    rows.append(('parameters', _parameters(found['parameters'])))
    for part, write in (
        ('tokens', _tokens),
        ('frame', _frame),
        ('flops', _flops),
        ('batch', _batch),
        ('memory', _memory),
        ('length', _length),
        ('time', _time),
    ):
        if part in found:
            rows += write(found[part])
    if not what['trains']:
        rows.append(('training', 'nothing is trained'))
    lines += [f'{name:<11}{value}'.rstrip() for name, value in rows]
    lines += [
        textwrap.fill(f'note: {note}', 79, subsequent_indent=' ' * 6)
        for note in found['notes']
    ]
    return '\n'.join(lines)


def _what(what: dict[str, Any]) -> str:
    parts = [what['kind'], what['algorithm'], what['backbone'], what['data']]
    return ', '.join(part for part in parts if part)


def _parameters(parameters: dict[str, int]) -> str:
    parts = [
        f'{name} {value / 1e6:.1f}'
        for name, value in parameters.items()
        if value or name in ('total', 'trained')
    ]
    return f'{", ".join(parts)} M'


def _tokens(tokens: dict[str, Any]) -> list[tuple[str, str]]:
    grid = 'x'.join(str(side) for side in tokens['grid'])
    line = f'{tokens["total"]} of a clip ({grid})'
    if tokens['masked']:
        line += (
            f': {tokens["visible"]} visible, {tokens["masked"]} masked, '
            f'{tokens["decoded"]} decoded'
        )
    return [('tokens', line)]


def _giga(flops: float) -> str:
    """GFLOPs, and multiply-adds as papers count them."""
    digits = '.1f' if flops >= 1e8 else '.1g'
    return f'{flops / 1e9:{digits}} ({flops / 2e9:{digits}})'


def _frame(frame: dict[str, Any]) -> list[tuple[str, str]]:
    height, width = frame['shape']
    return [
        ('tokens', f'{frame["tokens"]}, encoded at a time'),
        (
            'GFLOPs',
            f'{_giga(frame["flops"])} for a frame of 480x854, resized to '
            f'{height}x{width}; encoder only',
        ),
        ('', 'in brackets: multiply-adds'),
    ]


def _flops(flops: dict[str, int]) -> list[tuple[str, str]]:
    parts = [
        f'{name} {_giga(flops[name])}'
        for name in ('encoder', 'decoder', 'head')
        if flops[name]
    ]
    rows = [
        ('GFLOPs', f'forward {_giga(flops["forward"])} a clip: '),
        ('', ', '.join(parts)),
    ]
    if 'training' in flops:
        rows.append(('', f'training step {_giga(flops["training"])} a clip'))
    if 'test' in flops:
        rows.append(
            ('', f'test {_giga(flops["test"])} a video ({flops["views"]} x)')
        )
    return [*rows, ('', 'in brackets: multiply-adds, the GFLOPs of papers')]


def _batch(batch: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (
            'batch',
            f'{batch["clips"]} clips a step = {batch["gpus"]} GPUs x '
            f'{batch["videos"]} videos x {batch["repeats"]} clips of each x '
            f'{batch["accumulated"]} accumulated',
        )
    ]
    if batch['lr'] is not None:
        line = f'{batch["lr"]:.4g}'
        if batch['scaled_lr'] is None:
            line += '; the config does not say for which batch'
        else:
            line += (
                f', meant for {batch["base"]:g} clips; '
                f'{batch["scaled_lr"]:.4g} with --auto-scale-lr'
            )
        rows.append(('lr', line))
    return rows


def _memory(memory: dict[str, Any]) -> list[tuple[str, str]]:
    parts = ', '.join(
        f'{name} {memory[name] / 1e9:.1f}'
        for name in ('activations', 'weights', 'gradients', 'optimizer')
    )
    precision = 'mixed precision' if memory['half'] else 'float32'
    return [
        (
            'memory',
            f'{memory["total"] / 1e9:.1f} GB on each GPU, {precision}:',
        ),
        ('', parts),
        ('', ACCURACY),
    ]


def _length(length: dict[str, Any]) -> list[tuple[str, str]]:
    steps = f'{length["steps"]:,} in all'
    if length['epochs'] is None:
        return [('steps', f'{steps}, {length["clips"]:,} clips')]
    return [
        (
            'epochs',
            f'{length["epochs"]} over {length["videos"]:,} videos = '
            f'{length["clip_epochs"]} over clips',
        ),
        (
            'steps',
            f'{length["steps_per_epoch"]:,.10g} an epoch, {steps}, '
            f'{length["clips"]:,} clips',
        ),
    ]


def _time(time: dict[str, Any]) -> list[tuple[str, str]]:
    clips = time['gpu_seconds_at_1_clip_per_second']
    rows = []
    if 'hours' in time:
        rows.append(
            (
                'time',
                f'{time["hours"]:.1f} h at {time["clips_per_second"]:g} '
                'clips per second and GPU, tests not counted',
            )
        )
    else:
        rows.append(
            (
                'time',
                f'{clips / 360_000:,.1f} GPU-hours if a GPU trains on 100 '
                'clips per second; measure it',
            )
        )
        rows.append(
            ('', 'hours = clips / (clips per second and GPU x GPUs x 3600)')
        )
    if 'flops' in time:
        rows.append(('', f'{time["flops"] / 1e18:,.3g} exaFLOPs in all'))
    return rows
