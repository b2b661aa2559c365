#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Test a model; flags as in MMAction2."""

import argparse
import os
import os.path as osp
import sys
from collections.abc import Sequence

from mmengine.config import DictAction

from mmmotionmae.apis import UsageError, launch
from mmmotionmae.compat import (
    CheckpointError,
    leave_process_group,
    trust_checkpoints,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Test a model.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--work-dir', help='where the results go (default: as in train.py)'
    )
    parser.add_argument(
        '--dump', metavar='FILE.pkl', help='write the predictions to this file'
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='let --dump write over an existing file',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also load a checkpoint file that can run code',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config: key=value, '
        'key="[a,b]" or key=a,b; these come before all other flags',
    )
    parser.add_argument('--show-dir', help='where to draw the predictions')
    parser.add_argument(
        '--show', action='store_true', help='show the predictions in windows'
    )
    parser.add_argument(
        '--interval', type=int, default=1, help='draw every so many samples'
    )
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='how long a window stays, in seconds',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what starts the processes',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser.parse_args(argv)


def test(args: argparse.Namespace) -> dict[str, float]:
    """Test as the command line says.

    Args:
        args: What :func:`parse_args` returns.

    Returns:
        The metrics.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    trust_checkpoints(args.trust_checkpoint)
    cfg = launch.load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    if '://' not in args.checkpoint and not osp.exists(args.checkpoint):
        raise UsageError(f'There is no checkpoint {args.checkpoint!r}.')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    launch.set_visualization(
        cfg, args.show_dir, args.show, args.interval, args.wait_time
    )
    launch.set_dump(cfg, args.dump, args.overwrite)
    return launch.build_runner(cfg).test()


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    try:
        test(parse_args())
    except (UsageError, CheckpointError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    leave_process_group()
    return 0


if __name__ == '__main__':
    sys.exit(main())
