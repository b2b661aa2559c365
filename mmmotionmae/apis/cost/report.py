# Copyright (c) MotionMAE contributors. All rights reserved.
"""The description of a config: figures, and a table of them for people."""

import textwrap
from dataclasses import replace
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ...datasets.wrappers import passes_per_epoch
from .cluster import used_memory
from .flops import cost_of, frame_cost, views_of
from .network import Network, read_network
from .schedule import (
    PASSES_UNKNOWN,
    Batch,
    batch_of,
    data_of,
    gpus_and_clips,
    hours,
    length_of,
    videos_of,
)

# Estimated over measured activations, see the README.
ACCURACY = (
    'an estimate: within 6 % of measured on a CPU in float32; never '
    'compared with a GPU'
)


def describe(
    cfg: Config,
    gpus: int | None = None,
    videos: int | None = None,
    clips_per_second: float | None = None,
) -> dict[str, Any]:
    """Describe a config.

    Args:
        cfg: The config, read from a file.
        gpus: Defaults to what its name says, else 1.
        videos: To train on. Defaults to those of the data set, if known.
        clips_per_second: Of one GPU.

    Returns:
        Whatever applies of ``what``, ``parameters``, ``tokens``, ``flops``,
        ``batch``, ``memory``, ``length``, ``time`` and ``notes``; bytes,
        FLOPs (a multiply-add is two), clips, seconds.

    Raises:
        UsageError: See :func:`read_network` and :func:`length_of`.
    """
    init_default_scope(cfg.get('default_scope', 'mmaction'))
    network = read_network(cfg)
    found: dict[str, Any] = dict(
        what=_identity(cfg, network),
        parameters=dict(network.parameters, trained=network.trained),
        notes=[network.note] if network.note else [],
    )
    if cfg.get('train_cfg') is None:
        # What is trained is a matter of configs that train.
        found['parameters']['trained'] = 0
    if network.size is None:
        found['notes'].append(
            'Tokens and FLOPs are not counted: there is no ViT.'
        )
    elif network.kind == 'segmentation':
        frame = frame_cost(cfg, network)
        found['frame'] = vars(frame)
    else:
        found.update(_costs(cfg, network))
    if cfg.get('train_cfg') is not None:
        _add_training(found, cfg, network, gpus, videos, clips_per_second)
    return found


def _identity(cfg: Config, network: Network) -> dict[str, Any]:
    backbone = cfg.model.get('backbone') or {}
    return dict(
        config=cfg.filename,
        kind=network.kind,
        algorithm=cfg.model.type,
        backbone=backbone.get('type'),
        data=data_of(cfg),
        trains=cfg.get('train_cfg') is not None,
    )


def _costs(cfg: Config, network: Network) -> dict[str, Any]:
    tokens, cost = network.tokens, cost_of(network)
    assert tokens is not None and cost is not None
    flops = dict(
        encoder=cost.flops.encoder.total,
        decoder=cost.flops.decoder.total,
        head=cost.flops.head,
        forward=cost.flops.forward,
    )
    if cfg.get('train_cfg') is not None:
        flops['training'] = cost.training
    found: dict[str, Any] = dict(
        tokens=dict(
            grid=tokens.grid,
            total=tokens.total,
            visible=tokens.visible,
            masked=tokens.masked,
            decoded=tokens.decoded,
        ),
        flops=flops,
    )
    if network.kind == 'recognition' and (views := views_of(cfg)):
        flops['views'] = views
        flops['test'] = views * cost.flops.forward
    return found


def _add_training(
    found: dict[str, Any],
    cfg: Config,
    network: Network,
    gpus: int | None,
    videos: int | None,
    clips_per_second: float | None,
) -> None:
    named = gpus_and_clips(cfg.filename)
    batch = batch_of(cfg, gpus or (named[0] if named else 1))
    per_gpu = batch.videos * batch.repeats
    if named and named[1] != per_gpu:
        found['notes'].append(
            f'The name says {named[1]} clips on each GPU, the config has '
            f'{per_gpu}.'
        )
    found['batch'] = dict(vars(batch), scaled_lr=batch.scaled_lr)
    if network.size is not None and network.kind != 'other':
        used = (batch.gpus, per_gpu)
        found['memory'] = used_memory(cfg, network, *used)
        if not network.fused:
            lean = used_memory(cfg, replace(network, fused=True), *used)
            found['notes'].append(
                'Attention that is not fused keeps matrices of all pairs of '
                'tokens: with model.backbone.type=FusedVisionTransformer it '
                f'is {lean["total"] / 1e9:.1f} GB on each GPU.'
            )
    length = length_of(cfg, batch, videos or videos_of(data_of(cfg)))
    if length is None:
        found['notes'].append(
            'How many videos there are is not known: --videos N gives steps '
            'and time.'
        )
        return
    if passes_per_epoch(cfg.train_dataloader.dataset) is None:
        found['notes'].append(PASSES_UNKNOWN)
    found['length'] = vars(length)
    found['time'] = _duration(
        length.clips, batch, found.get('flops'), clips_per_second
    )


def _duration(
    clips: int,
    batch: Batch,
    flops: dict[str, int] | None,
    clips_per_second: float | None,
) -> dict[str, Any]:
    time: dict[str, Any] = dict(gpu_seconds_at_1_clip_per_second=clips)
    if flops:
        time['flops'] = clips * flops['training']
    if clips_per_second is not None:
        time['clips_per_second'] = clips_per_second
        time['hours'] = hours(clips, batch.gpus, clips_per_second)
    return time


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
    if memory['way'] != 'ddp':
        precision += f', {memory["way"].upper()}'
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
