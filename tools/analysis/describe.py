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
from mmmotionmae.apis.cost import describe, text
from mmmotionmae.cli.running import run_tool
from mmmotionmae.utils.files import complete_file


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
            with complete_file(Path(args.json)) as part:
                part.write_text(json.dumps(found, indent=1), encoding='utf-8')

    return run_tool(run)


if __name__ == '__main__':
    sys.exit(main())
