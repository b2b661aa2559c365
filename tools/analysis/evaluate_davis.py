#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Score masks, from whatever program, as the official one of DAVIS does."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmmotionmae.cli.arguments import int_from


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Print J and F of masks, for each object and in the mean, '
        'in per cent. The values are those of the official program of '
        'DAVIS-2017, semi-supervised.'
    )
    parser.add_argument(
        'results',
        metavar='RESULTS_DIR',
        help='has <sequence>/<frame>.png',
    )
    parser.add_argument(
        'davis',
        metavar='DAVIS_ROOT',
        help='has JPEGImages, Annotations and ImageSets',
    )
    parser.add_argument(
        '--split',
        default='val',
        help='the list of sequences (default: %(default)s)',
    )
    parser.add_argument(
        '--year',
        default='2017',
        help='folder of the list, below ImageSets (default: %(default)s)',
    )
    parser.add_argument(
        '--resolution',
        default='480p',
        help='folder of frames and masks (default: %(default)s)',
    )
    parser.add_argument(
        '--binary',
        action='store_true',
        help='masks mark the object with 255, as in DAVIS-2016; the objects '
        'of a ground truth that has several are scored as one (default: '
        'where the ground truth is of that kind)',
    )
    parser.add_argument(
        '--resize',
        nargs=2,
        type=int_from(1),
        metavar=('HEIGHT', 'WIDTH'),
        help='score everything at this size; published numbers of CropMAE, '
        'SiamMAE and RSP are of 480 880',
    )
    parser.add_argument(
        '--num-workers',
        type=int_from(0),
        default=len(os.sched_getaffinity(0)),
        metavar='N',
        help='sequences at a time, each in a process of its own; 0: all in '
        'this one (default: one for each CPU, %(default)s)',
    )
    parser.add_argument(
        '--out-dir',
        type=Path,
        metavar='DIR',
        help='also write the official CSV files, and results.json with the '
        'values of each frame',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.running import run_tool
from mmmotionmae.evaluation import score_davis
from mmmotionmae.evaluation.davis_report import (
    format_table,
    list_oddities,
    report_paths,
    write_report,
)
from mmmotionmae.utils.errors import ScoringError


def evaluate(args: argparse.Namespace) -> None:
    """Score, print the table and, if wanted, write the files.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: If files would be overwritten, or something cannot be
            scored.
        FileNotFoundError: If there is no such folder or data set.
    """
    if not Path(args.results).is_dir():
        raise FileNotFoundError(f'There is no folder {args.results!r}.')
    if args.out_dir is not None:
        for path in report_paths(args.out_dir, args.split):
            if path.exists():
                raise UsageError(
                    f'{str(path)!r} exists already; choose another folder '
                    'for --out-dir, or remove the file.'
                )
    resize = None if args.resize is None else tuple(args.resize)
    try:
        scores = score_davis(
            args.results,
            args.davis,
            split=args.split,
            year=args.year,
            resolution=args.resolution,
            num_workers=args.num_workers,
            resize=resize,
            binary=args.binary or 'auto',
        )
    except (ScoringError, ValueError) as error:
        raise UsageError(str(error)) from error
    print(format_table(scores))
    for oddity in list_oddities(scores):
        print(f'note: {oddity}', file=sys.stderr)
    if args.out_dir is not None:
        write_report(scores, args.out_dir, args.split, resize)


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: evaluate(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
