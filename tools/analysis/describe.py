#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Say what a config trains and what it costs, before any GPU is asked."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmmotionmae.cli.arguments import (
    ConfigOptions,
    int_from,
    positive,
    refuse_old_files,
)

# Of a cluster: field of `Machine`, option, how many units, unit, what it is.
CLUSTER = (
    ('memory', 'gpu-memory', 1e9, 'GB', 'memory of a GPU'),
    (
        'outside',
        'network',
        1e9,
        'GB/s',
        'that a node sends to the others, all of its cards together',
    ),
    (
        'inside',
        'interconnect',
        1e9,
        'GB/s',
        'that a GPU sends to the others of its node',
    ),
    (
        'flops',
        'tflops',
        1e12,
        'X',
        'TFLOPs a second that a GPU reaches; where --clips-per-second is not '
        'known',
    ),
    (
        'clips_per_core',
        'clips-per-core',
        1,
        'X',
        'clips that a core of the loader makes in a second, by '
        'tools/benchmark.py training (default: as in docs/'
        'user_guides/clusters.md)',
    ),
    (
        'video_bytes',
        'video-size',
        1e6,
        'MB',
        'mean size of a video file (default: 0.424)',
    ),
    (
        'storage',
        'storage',
        1e9,
        'GB/s',
        'that a node reads from disks and writes to them',
    ),
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Print parameters, tokens, FLOPs, memory (estimated), '
        'batch, steps and hours of a config; with one of the options of a '
        'cluster also what it needs of that. Needs no data and no GPU.'
    )
    add = parser.add_argument
    add('config', help='config file')
    add(
        '--gpus',
        type=int_from(1),
        help='GPUs (default: as the name of the config says, else 1)',
    )
    add(
        '--videos',
        type=int_from(1),
        help='videos to train on (default: those of the data set, if known)',
    )
    add(
        '--clips-per-second',
        type=positive,
        metavar='X',
        help='clips that one GPU trains on in a second, measured; gives hours',
    )
    add(
        '--gpus-per-node',
        type=int_from(1),
        metavar='N',
        help='plan a cluster of nodes with so many GPUs (default: 8)',
    )
    for _, option, _, unit, what in CLUSTER:
        add(f'--{option}', type=positive, metavar=unit, help=f'plan: {what}')
    add('--json', metavar='FILE', help='write all figures, in single units')
    add('--overwrite', action='store_true', help='write over that file')
    add(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='override settings of the config, as for tools/train.py',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

import mmmotionmae  # noqa: F401  (registers everything)
from mmmotionmae.apis import load_config
from mmmotionmae.apis.cost import (
    Machine,
    cluster_text,
    describe,
    plan,
    text,
)
from mmmotionmae.cli.running import run_tool
from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.files import complete_file


def machine_of(args: argparse.Namespace) -> Machine | None:
    """The cluster that the command line describes; None if it does not.

    Raises:
        UsageError: If it does not say how many GPUs there are.
    """
    told: dict[str, float] = {}
    for field, option, factor, *_ in CLUSTER:
        value = getattr(args, option.replace('-', '_'))
        if value is not None:
            told[field] = value * factor
    if not told and args.gpus_per_node is None:
        return None
    if args.gpus is None:
        raise UsageError('A plan for a cluster needs --gpus N.')
    return Machine(
        args.gpus,
        args.gpus_per_node or 8,
        clips_per_second=args.clips_per_second,
        **told,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and turn a user's mistakes into one line."""

    def run() -> None:
        args = parse_args(argv)
        refuse_old_files([args.json], args.overwrite)
        machine = machine_of(args)
        cfg = load_config(args.config, args.cfg_options)
        found = describe(cfg, args.gpus, args.videos, args.clips_per_second)
        print(text(found))
        if machine is not None:
            found['cluster'] = plan(cfg, machine, found, args.videos)
            print(f'\n{cluster_text(found["cluster"])}')
        if args.json:
            with complete_file(Path(args.json)) as part:
                part.write_text(json.dumps(found, indent=1), encoding='utf-8')

    return run_tool(run)


if __name__ == '__main__':
    sys.exit(main())
