#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Train a model; flags as in MMAction2."""

import argparse
import sys
from collections.abc import Sequence

from mmmotionmae.cli.arguments import (
    add_amp_argument,
    add_common_arguments,
    seed,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='config file')
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
    add_amp_argument(parser)
    parser.add_argument(
        '--fsdp',
        action='store_true',
        help='spread weights, gradients and optimiser over all processes '
        '(FSDP2): for models that do not fit one device',
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
    parser.add_argument('--seed', type=seed, help='random seed')
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
    add_common_arguments(parser)
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmotionmae.apis import runner as runs
from mmmotionmae.cli import train_options
from mmmotionmae.cli.data_errors import (
    explain_data_errors,
    leave_out_bad_videos,
)
from mmmotionmae.cli.labels import check_labels
from mmmotionmae.cli.resume import set_resume
from mmmotionmae.cli.running import config_of, run_tool


def train(args: argparse.Namespace, hooks: Sequence[Hook] = ()) -> Runner:
    """Train as the command line says.

    Args:
        args: What :func:`parse_args` returns.
        hooks: More hooks for the runner.

    Returns:
        The runner, after training.
    """
    cfg = config_of(args)
    set_resume(cfg, args.resume, args.overwrite)
    train_options.set_randomness(
        cfg, args.seed, args.diff_rank_seed, args.deterministic
    )
    if args.amp:
        train_options.set_amp(cfg, args.amp)
    if args.fsdp:
        train_options.set_fsdp(cfg)
    if args.auto_scale_lr:
        train_options.set_auto_scale_lr(cfg)
    if args.no_validate:
        train_options.switch_off_validation(cfg)
    check_labels(cfg)
    leave_out_bad_videos(cfg)
    runner = runs.build_runner(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    train_options.check_train_data(runner)
    runner.logger.info(runs.describe_batch(cfg, runner.world_size))
    with explain_data_errors(runner):
        runner.train()
    return runner


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: train(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
