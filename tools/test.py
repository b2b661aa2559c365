#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Test a model; flags as in MMAction2."""

import argparse
import os.path as osp
import sys
from collections.abc import Sequence

from mmmotionmae.apis import UsageError, launch
from mmmotionmae.apis.bad_data import (
    explain_data_errors,
    leave_out_bad_videos,
)
from mmmotionmae.apis.command_line import (
    add_common_arguments,
    config_of,
    run_tool,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Test a model.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--dump', metavar='FILE.pkl', help='write the predictions to this file'
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='let --dump write over an existing file',
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
    add_common_arguments(parser)
    return parser.parse_args(argv)


def test(args: argparse.Namespace) -> dict[str, float]:
    """Test as the command line says.

    Args:
        args: What :func:`parse_args` returns.

    Returns:
        The metrics.
    """
    cfg = config_of(args)
    if '://' not in args.checkpoint and not osp.exists(args.checkpoint):
        raise UsageError(f'There is no checkpoint {args.checkpoint!r}.')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    launch.set_visualization(
        cfg, args.show_dir, args.show, args.interval, args.wait_time
    )
    launch.set_dump(cfg, args.dump, args.overwrite)
    leave_out_bad_videos(cfg)
    runner = launch.build_runner(cfg)
    with explain_data_errors(runner):
        return runner.test()


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: test(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
