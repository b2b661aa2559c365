#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Classify videos by features of files: k-NN and a linear probe."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmmotionmae.cli.arguments import int_from
from mmmotionmae.utils.choices import METHODS, NEIGHBOURS, STRENGTHS


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Classify videos by the features that '
        'tools/extract_features.py has written: by their nearest neighbours '
        '(the protocol of DINO) and by logistic regression, whose '
        'regularisation is chosen on the training features alone. Accuracies '
        'have 95 % confidence intervals (Wilson).'
    )
    parser.add_argument('train', type=Path, help='.npy or .h5 to learn from')
    parser.add_argument(
        'test',
        type=Path,
        nargs='?',
        help='.npy or .h5 to test on (default: cross-validation of the first)',
    )
    parser.add_argument(
        '--method',
        nargs='+',
        choices=METHODS,
        default=METHODS,
        help='which classifiers (default: both)',
    )
    parser.add_argument(
        '--block',
        nargs='+',
        type=int,
        metavar='N',
        help='which of the blocks in the files, from 0 (default: all)',
    )
    parser.add_argument(
        '--neighbours',
        nargs='+',
        type=int_from(1),
        default=NEIGHBOURS,
        metavar='K',
        help=f'of k-NN (default: {" ".join(map(str, NEIGHBOURS))})',
    )
    parser.add_argument(
        '--temperature',
        type=float,
        default=0.07,
        metavar='T',
        help='of the votes of the neighbours (default: %(default)g)',
    )
    parser.add_argument(
        '--strengths',
        nargs='+',
        type=float,
        default=STRENGTHS,
        metavar='C',
        help='of the logistic regression, to choose from (default: '
        f'{" ".join(f"{c:g}" for c in STRENGTHS)})',
    )
    parser.add_argument(
        '--folds',
        type=int_from(2),
        metavar='N',
        help='of the cross-validation of a single file (default: 10)',
    )
    parser.add_argument(
        '--leave-one-out',
        action='store_true',
        help='test each video of a single file on all others',
    )
    parser.add_argument(
        '--seed',
        type=int_from(0),
        default=0,
        help='of folds (default: %(default)s)',
    )
    parser.add_argument(
        '--num-jobs',
        type=int,
        default=1,
        metavar='N',
        help='processes for the choice of C; -1: one for each CPU '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='where the results go, with all settings (default: '
        '<last file without suffix>.accuracy.json)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace earlier results'
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.features import evaluate_features
from mmmotionmae.apis.features.evaluation import format_report
from mmmotionmae.cli.running import run_tool


def evaluate(args: argparse.Namespace) -> None:
    """Print a table and write it to a file.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: See :func:`evaluate_features`.
        FileNotFoundError: Likewise.
    """
    last = args.test or args.train
    out = args.out or last.with_suffix('.accuracy.json')
    try:
        report = evaluate_features(
            args.train,
            args.test,
            methods=args.method,
            blocks=args.block,
            neighbours=args.neighbours,
            temperature=args.temperature,
            strengths=args.strengths,
            folds=args.folds,
            leave_one_out=args.leave_one_out,
            seed=args.seed,
            num_jobs=args.num_jobs,
            out=out,
            overwrite=args.overwrite,
        )
    except PermissionError as error:
        raise UsageError(str(error)) from error
    print(f'{format_report(report)}\nwritten to {out}')


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: evaluate(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
