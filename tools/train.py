#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Train a model; flags as in MMAction2."""

import argparse
import sys
from collections.abc import Sequence

from mmmotionmae.cli.arguments import (
    add_amp_argument,
    add_common_arguments,
    int_from,
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
    spread = parser.add_mutually_exclusive_group()
    spread.add_argument(
        '--fsdp',
        action='store_true',
        help='spread weights, gradients and optimiser over all processes '
        '(FSDP2): for models that do not fit one device',
    )
    spread.add_argument(
        '--deepspeed',
        type=int_from(1, 3),
        metavar='STAGE',
        help='the same with ZeRO 1, 2 or 3 of DeepSpeed',
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
    parser.add_argument(
        '--keep-batch',
        action='store_true',
        help='hold the batch of the config on any number of processes, by '
        'accumulation: the same steps, schedule and epochs',
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

from mmmotionmae.apis import batches
from mmmotionmae.apis import runner as runs
from mmmotionmae.cli import train_options
from mmmotionmae.cli.data_errors import (
    explain_data_errors,
    leave_out_bad_videos,
)
from mmmotionmae.cli.keep_batch import keep_batch, world_size_of
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
    if args.deepspeed:
        train_options.set_deepspeed(cfg, args.deepspeed)
    notes = []
    if args.keep_batch:
        notes.append(keep_batch(cfg, world_size_of(cfg.launcher)))
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
    for note in notes:
        runner.logger.info(note)
    runner.logger.info(batches.describe_batch(cfg, runner.world_size))
    with explain_data_errors(runner):
        runner.train()
    return runner


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: train(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
