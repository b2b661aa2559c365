#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Draw a short list from a long one, the same share of every class."""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmmotionmae.cli.arguments import add_list_arguments


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Draw videos from a labelled list, for training with few '
        'labels. Of every class the same share, or the same number, is '
        'drawn, and at least one video. With the same seed, a list holds all '
        'that shorter ones hold.'
    )
    parser.add_argument('list', type=Path, help='labelled list')
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument(
        '--fraction',
        type=float,
        help='share of the videos of each class, in (0, 1]',
    )
    amount.add_argument(
        '--per-class',
        type=int,
        metavar='N',
        help='number of videos of each class; all of a class with fewer',
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='which videos are drawn (default: %(default)s)',
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='where the short list goes'
    )
    parser.add_argument(
        '--frames',
        action='store_true',
        help='the list is one of folders with raw frames',
    )
    add_list_arguments(parser)
    parser.add_argument(
        '--overwrite', action='store_true', help='replace an earlier list'
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

import numpy as np
from build_file_list import write_lines

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.running import layout_of, run_tool
from mmmotionmae.datasets.annotation import Layout, open_list, read_texts
from mmmotionmae.utils.files import complete_file


class Entry(NamedTuple):
    """One line of a list."""

    text: str  # the line as it is
    label: int


def sample_list(args: argparse.Namespace) -> None:
    """Write the short list and print what is in it.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: If a flag makes no sense, the list has no labels, or a
            file would be overwritten.
        AnnotationError: If the list is not as it should be.
        FileNotFoundError: If there is no such list.
    """
    if args.fraction is not None and not 0 < args.fraction <= 1:
        raise UsageError(
            f'--fraction must be in (0, 1], not {args.fraction:g}; for one '
            'percent it is 0.01.'
        )
    if args.per_class is not None and args.per_class < 1:
        raise UsageError(
            f'--per-class must be 1 or more, not {args.per_class}.'
        )
    if args.seed < 0:
        raise UsageError(f'--seed must be 0 or more, not {args.seed}.')
    if args.out.exists() and not args.overwrite:
        raise UsageError(
            f'{args.out} exists already; write over it with --overwrite.'
        )
    names, entries = read_entries(args.list, layout_of(args))
    if args.out.exists() and args.out.samefile(args.list):
        raise UsageError(f'--out {args.out} is the list that is drawn from.')
    drawn = draw(entries, args.seed, args.fraction, args.per_class)
    with complete_file(args.out) as temporary:
        texts = [entry.text for entry in drawn]
        write_lines(temporary, [names, *texts] if names else texts)
    counts = Counter(entry.label for entry in drawn)
    print(
        f'{args.out}: {len(drawn)} of {len(entries)} videos '
        f'({len(drawn) / len(entries):.2%}), {len(counts)} classes, '
        f'{min(counts.values())} to {max(counts.values())} videos of each'
    )


def read_entries(path: Path, layout: Layout) -> tuple[str, list[Entry]]:
    """Read a labelled list, and keep the text of its lines.

    Returns:
        Names of columns, '' without, as the list has them; its entries.

    Raises:
        UsageError: If it has no labels.
        AnnotationError: If it is not as it should be.
        FileNotFoundError: If there is no such list.
    """
    listed = open_list(str(path), layout)
    if listed.facts['unlabelled'] is not None or listed.facts['label_min'] < 0:
        raise UsageError(
            f'{path} has no labels, which are needed to draw from every class.'
        )
    names, texts = read_texts(str(path), layout)
    labels = map(listed.label_of, range(len(listed)))
    return names, list(map(Entry, texts, labels))


def draw(
    entries: Sequence[Entry],
    seed: int,
    fraction: float | None = None,
    per_class: int | None = None,
) -> list[Entry]:
    """Draw from every class at random.

    What is drawn of a class depends neither on the order of the lines nor on
    other classes, and with the same seed more includes less.

    Args:
        entries: All of them.
        seed: Of the random choice, 0 or more.
        fraction: Share of each class, in (0, 1], rounded half up; at least
            one.
        per_class: Number of each class, in place of ``fraction``.

    Returns:
        In the order of ``entries``.
    """
    classes = defaultdict(list)
    for number, entry in enumerate(entries):
        classes[entry.label].append(number)
    drawn: list[int] = []
    for label, numbers in classes.items():
        count = per_class or max(1, int((fraction or 0) * len(numbers) + 0.5))
        numbers.sort(key=lambda number: entries[number].text)
        generator = np.random.Generator(np.random.PCG64([seed, label]))
        order = np.argsort(generator.random(len(numbers)), kind='stable')
        drawn += [numbers[i] for i in order[:count]]
    return [entries[number] for number in sorted(drawn)]


def main() -> int:
    """Run, and turn a user's mistakes into one line."""

    def run() -> None:
        try:
            sample_list(parse_args())
        except OSError as error:  # such as a folder without permission
            raise UsageError(str(error)) from error

    return run_tool(run)


if __name__ == '__main__':
    sys.exit(main())
