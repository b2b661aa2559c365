#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Train a model; flags as in MMAction2."""

import argparse
import os
import sys
from collections.abc import Sequence

from mmengine.config import DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmotionmae.apis import UsageError, launch
from mmmotionmae.compat import (
    CheckpointError,
    leave_process_group,
    trust_checkpoints,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='where logs and checkpoints go '
        '(default: that of the config, else work_dirs/<config name>)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or, without a value, from the '
        'last one in the work dir',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='start anew in a work dir that holds an earlier run',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='bf16',
        choices=['bf16', 'fp16'],
        help='train in mixed precision (default: bf16)',
    )
    parser.add_argument(
        '--no-validate',
        action='store_true',
        help='do not evaluate during training',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the effective batch size: '
        'processes x batch x repeats x accumulation',
    )
    parser.add_argument('--seed', type=int, help='random seed')
    parser.add_argument(
        '--diff-rank-seed',
        action='store_true',
        help='give each process its own seed',
    )
    parser.add_argument(
        '--deterministic',
        action='store_true',
        help='use deterministic algorithms only',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also load checkpoint files that can run code',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config: key=value, '
        'key="[a,b]" or key=a,b; these come before all other flags',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what starts the processes',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser.parse_args(argv)


def train(args: argparse.Namespace, hooks: Sequence[Hook] = ()) -> Runner:
    """Train as the command line says.

    Args:
        args: What :func:`parse_args` returns.
        hooks: More hooks for the runner.

    Returns:
        The runner, after training.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    trust_checkpoints(args.trust_checkpoint)
    cfg = launch.load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    launch.set_resume(cfg, args.resume, args.overwrite)
    launch.set_randomness(
        cfg, args.seed, args.diff_rank_seed, args.deterministic
    )
    if args.amp:
        launch.set_amp(cfg, args.amp)
    if args.auto_scale_lr:
        launch.set_auto_scale_lr(cfg)
    if args.no_validate:
        launch.switch_off_validation(cfg)
    runner = launch.build_runner(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    launch.check_train_data(runner)
    runner.logger.info(launch.describe_batch(cfg, runner.world_size))
    runner.train()
    return runner


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    try:
        train(parse_args())
    except (UsageError, CheckpointError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    leave_process_group()
    return 0


if __name__ == '__main__':
    sys.exit(main())
