#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Test a model; flags as in MMAction2."""

import argparse
import sys
from collections.abc import Sequence

from mmmotionmae.cli.arguments import add_amp_argument, add_common_arguments


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Test a model.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file; "none": the weights that the config sets up '
        'itself (random, init_cfg, load_from); may be left out for a model '
        'without weights',
    )
    parser.add_argument(
        '--dump',
        metavar='FILE.pkl',
        help='write the predictions to this file; the same command goes on '
        'after an interruption (what is done is in FILE.pkl.parts)',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='let --dump write over an existing file, and set the parts of '
        'another test aside; label all sequences anew and set earlier results '
        'aside',
    )
    add_amp_argument(parser)
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
    # The checkpoint may come after flags, too.
    return parser.parse_intermixed_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmmotionmae.apis import runner as runs
from mmmotionmae.cli import test_options
from mmmotionmae.cli.data_errors import (
    explain_data_errors,
    leave_out_bad_videos,
)
from mmmotionmae.cli.labels import check_labels
from mmmotionmae.cli.running import config_of, run_tool


def test(args: argparse.Namespace) -> dict[str, float]:
    """Test as the command line says.

    Args:
        args: What :func:`parse_args` returns.

    Returns:
        The metrics.
    """
    cfg = config_of(args)
    test_options.check_test(cfg)
    test_options.set_checkpoint(cfg, args.checkpoint)
    test_options.set_visualization(
        cfg, args.show_dir, args.show, args.interval, args.wait_time
    )
    test_options.check_views(cfg)
    test_options.set_test_amp(cfg, args.amp)
    test_options.set_dump(cfg, args.dump, args.overwrite)
    if args.overwrite:
        test_options.set_overwrite(cfg)
    check_labels(cfg)
    leave_out_bad_videos(cfg)
    runner = runs.build_runner(cfg)
    test_options.init_weights(runner, args.checkpoint)
    try:
        with explain_data_errors(runner):
            return runner.test()
    finally:
        runner.call_hook('close')  # bars, before an error is printed


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: test(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
