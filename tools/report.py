#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Report on a work dir: one HTML file that holds everything."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mmmotionmae.cli.arguments import int_from


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Draw what a training has logged into one HTML file: '
        'losses, R2, learning rate, speed, validation, pictures, bad videos, '
        'environment and config. Trainings that were resumed are joined. For '
        'work dirs of this package, MMAction2 and MMEngine.'
    )
    parser.add_argument('work_dir', metavar='WORK_DIR', type=Path)
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='where to (default: report.html in the work dir)',
    )
    parser.add_argument(
        '--watch',
        type=int_from(1),
        nargs='?',
        const=30,
        metavar='SECONDS',
        help='write it anew every so often (default: %(const)s) until the '
        'training is done; the page refreshes itself',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmmotionmae.cli.running import run_tool
from mmmotionmae.utils.errors import UsageError


def report(
    args: argparse.Namespace, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Write the report, once or until the training is done.

    Args:
        args: What :func:`parse_args` returns.
        sleep: Waits so many seconds.

    Raises:
        UsageError: If there is no such folder, a file in the way, or a
            package missing.
    """
    try:
        from reports.page import check_page
        from reports.work_dir import write_report
    except ModuleNotFoundError as error:
        raise UsageError(
            f"A report needs {error.name}: pip install 'mmmotionmae[demo]'."
        ) from error
    if not args.work_dir.is_dir():
        raise UsageError(f'There is no work dir {str(args.work_dir)!r}.')
    path = args.out or args.work_dir / 'report.html'
    check_page(path)
    before = ''
    while True:
        text, done = write_report(args.work_dir, path, args.watch)
        if text != before:
            print(f'{path}: {text}', flush=True)
            before = text
        if not args.watch or done:
            return
        sleep(args.watch)


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    try:
        return run_tool(lambda: report(parse_args()))
    except KeyboardInterrupt:  # the way to stop watching
        return 130


if __name__ == '__main__':
    sys.exit(main())
