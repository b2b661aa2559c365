#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure this project beside stock MMAction2 and the code of others."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = dict(
    model='a step of our model beside VideoMAE and transformers',
    data='the data path beside stock MMAction2',
    lists='long lists of videos: time to open and draw from them, memory',
    training='loader, model and trainer of a config: which side limits',
    testing='the dense test of a recogniser beside stock MMAction2',
    scaling='the cost of a step over frames and frame size',
    vos='video object segmentation beside DINO, CropMAE and DAVIS',
    export='exported classifiers beside PyTorch and stock MMAction2',
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='\n'.join(
            ['commands (each has its own --help):']
            + [f'  {name:10}{what}' for name, what in COMMANDS.items()]
        ),
    )
    parser.add_argument('command', choices=list(COMMANDS))
    parser.add_argument('options', nargs=argparse.REMAINDER)
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmmotionmae.cli.running import run_tool


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and turn a user's mistakes into one line."""
    args = parse_args(argv)
    tool = import_module(f'benchmarks.{args.command}')
    return run_tool(lambda: tool.benchmark(tool.parse_args(args.options)))


if __name__ == '__main__':
    sys.exit(main())
