#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Say what a config trains and what it costs, before any GPU is asked."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark_output import count, positive, refuse_old_files
from describe_flops import cost_of, frame_cost, views_of
from describe_memory import memory_of
from describe_model import Network, read_network
from describe_report import text
from describe_training import (
    Batch,
    batch_of,
    data_of,
    gpus_and_clips,
    hours,
    is_half,
    length_of,
    states_of,
    videos_of,
)
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

import mmmotionmae  # noqa: F401  (registers everything)
from mmmotionmae.apis import load_config
from mmmotionmae.cli.arguments import run_tool
from mmmotionmae.utils.files import complete_file


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Print parameters, tokens, FLOPs, memory (estimated), '
        'batch, steps and hours of a config. Needs no data and no GPU.'
    )
    add = parser.add_argument
    add('config', help='config file')
    add(
        '--gpus',
        type=count,
        help='GPUs (default: as the name of the config says, else 1)',
    )
    add(
        '--videos',
        type=count,
        help='videos to train on (default: those of the data set, if known)',
    )
    add(
        '--clips-per-second',
        type=positive,
        metavar='X',
        help='clips that one GPU trains on in a second, measured; gives hours',
    )
    add('--json', metavar='FILE', help='write all figures, in single units')
    add('--overwrite', action='store_true', help='write over that file')
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, as for tools/train.py',
    )
    return parser.parse_args(argv)


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
        what=_what(cfg, network),
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


def write_json(found: dict[str, Any], path: str) -> None:
    """Write what :func:`describe` found."""
    with complete_file(Path(path)) as part:
        part.write_text(json.dumps(found, indent=1), encoding='utf-8')


def _what(cfg: Config, network: Network) -> dict[str, Any]:
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
        options = (per_gpu, is_half(cfg), states_of(cfg), batch.gpus > 1)
        memory = memory_of(network, *options)
        found['memory'] = dict(
            vars(memory), total=memory.total, half=is_half(cfg)
        )
        if not network.fused:
            lean = memory_of(replace(network, fused=True), *options)
            found['notes'].append(
                'Attention that is not fused keeps matrices of all pairs of '
                'tokens: with model.backbone.type=FusedVisionTransformer it '
                f'is {lean.total / 1e9:.1f} GB on each GPU.'
            )
    length = length_of(cfg, batch, videos or videos_of(data_of(cfg)))
    if length is None:
        found['notes'].append(
            'How many videos there are is not known: --videos N gives steps '
            'and time.'
        )
        return
    found['length'] = vars(length)
    found['time'] = _time(
        length.clips, batch, found.get('flops'), clips_per_second
    )


def _time(
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and turn a user's mistakes into one line."""

    def run() -> None:
        args = parse_args(argv)
        refuse_old_files([args.json], args.overwrite)
        found = describe(
            load_config(args.config, args.cfg_options),
            args.gpus,
            args.videos,
            args.clips_per_second,
        )
        print(text(found))
        if args.json:
            write_json(found, args.json)

    return run_tool(run)


if __name__ == '__main__':
    sys.exit(main())
