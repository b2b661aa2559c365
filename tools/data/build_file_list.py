#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Make the lists that RobustVideoDataset reads from a folder of videos."""

import argparse
import os.path as osp
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Make train.txt, val.txt and classes.txt from a folder '
        'with a sub-folder of videos for each class. The paths are relative '
        'to the folder, which is to be data_prefix.video (with --frames: '
        'data_prefix.img) of RobustVideoDataset. Hidden files and what is no '
        'video are passed over and named; in passed_over.txt, if they are '
        'many. A sub-folder '
        'without videos keeps its place among the classes.'
    )
    parser.add_argument('folder', help='where the videos are')
    parser.add_argument('out_dir', type=Path, help='where the lists go')
    parser.add_argument(
        '--unlabelled',
        action='store_true',
        help='lists without labels, for pre-training; the folder may look '
        'as it likes',
    )
    parser.add_argument(
        '--val-share',
        type=float,
        metavar='SHARE',
        help='share of the videos of each class that goes to val.txt; at '
        'least one stays on either side; 0: no val.txt '
        '(default: 0.1; 0 with --unlabelled)',
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='which videos go to val.txt (default: %(default)s)',
    )
    parser.add_argument(
        '--classes',
        type=Path,
        metavar='FILE',
        help='names of the sub-folders, one a line, in the order of the '
        'labels (default: sorted by name)',
    )
    parser.add_argument(
        '--frames',
        action='store_true',
        help='list folders of raw frames instead of videos: folder, number '
        'of images, label',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace earlier lists'
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.running import run_tool
from mmmotionmae.datasets.annotation import (
    Found,
    quote,
    read_frame_list,
    read_video_list,
    walk,
)
from mmmotionmae.datasets.readers import list_frames
from mmmotionmae.utils.files import complete_file


class Entry(NamedTuple):
    """One line of a list."""

    path: str  # relative to the folder
    label: int  # -1: none
    num_frames: int  # -1: a video file

    def line(self) -> str:
        """How it is written in a list."""
        if self.num_frames >= 0:
            # Without a label, a number at the end of the folder's name would
            # be taken for the number of frames.
            return f'{quote(self.path)} {self.num_frames} {self.label}'
        path = quote(self.path)
        if self.label < 0:
            return path
        delimiter = ',' if self.path.startswith('"') else ' '
        return f'{path}{delimiter}{self.label}'


def build(args: argparse.Namespace) -> None:
    """Write the lists and print what is in them.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: If a video belongs to no class, a path cannot be written
            in a list, or a file would be overwritten.
        FileNotFoundError: If there is no such folder, or nothing in it.
    """
    share = args.val_share
    if share is None:
        share = 0.0 if args.unlabelled else 0.1
    if not 0 <= share < 1:
        raise UsageError(f'--val-share must be in [0, 1), not {share:g}.')
    if args.unlabelled and args.classes:
        raise UsageError('--classes makes no sense with --unlabelled.')
    outputs = {
        name: args.out_dir / f'{name}.txt'
        for name in ('train', 'val', 'classes', 'passed_over')
    }
    for path in outputs.values():
        if path.exists() and not args.overwrite:
            raise UsageError(
                f'{str(path)!r} exists already; choose another folder, or '
                'write over it (--overwrite).'
            )
    found = walk(args.folder, args.frames)
    paths = found.paths
    classes = [] if args.unlabelled else classes_of(found, args)
    labels = {name: label for label, name in enumerate(classes)}
    namings: dict[str, str] = {}  # with a folder that is named so
    entries = []
    for path in paths:
        num_frames = -1
        if args.frames:
            names = list_frames(osp.join(args.folder, path))
            num_frames = len(names)
            namings.setdefault(naming_of(names), path)
        label = labels.get(class_of(path), -1)
        entries.append(Entry(path, label, num_frames))
    train, val = split(entries, share, args.seed)
    for name, part in (('train', train), ('val', val)):
        write_list(outputs[name], part)
        if part or share:
            print(f'{outputs[name]}: {len(part)} videos')
    outputs['classes'].unlink(missing_ok=True)
    if classes:
        with complete_file(outputs['classes']) as temporary:
            write_lines(temporary, classes)
        print(f'{outputs["classes"]}: {len(classes)} classes')
        empty = set(classes) - {class_of(path) for path in paths}
        if empty:
            print(f'without videos: {", ".join(sorted(empty))}')
    for naming, path in namings.items():
        print(f'{path!r} {naming}')
    write_passed_over(outputs['passed_over'], found)


def write_passed_over(path: Path, found: Found) -> None:
    """Name all that is in no list: a few on the screen, all in a file."""
    path.unlink(missing_ok=True)
    for line in found.passed_over():
        print(line)
    names = sorted([*found.litter, *found.others])
    if not found.all_named():
        with complete_file(path) as temporary:
            temporary.write_text(
                ''.join(f'{name}\n' for name in names),
                encoding='utf-8',
                errors='replace',
            )
        print(f'{path}: all {len(names)} of them')


def class_of(path: str) -> str:
    """The first folder of a path; ``''`` if there is none above it."""
    first, _, rest = path.partition('/')
    return first if rest else ''


def classes_of(walked: Found, args: argparse.Namespace) -> list[str]:
    """Names of the classes, in the order of the labels.

    Raises:
        UsageError: If a video belongs to none, or to one that is not among
            ``--classes``.
    """
    paths = walked.paths
    outside = [path for path in paths if not class_of(path)]
    if outside:
        raise UsageError(
            f'{outside[0]!r} and {len(outside) - 1} more are in no '
            f'sub-folder of {args.folder!r}, so they have no class. Move '
            'them into a folder for each class, or make lists without '
            'labels (--unlabelled).'
        )
    if args.classes is None:  # those without videos, too
        return walked.folders
    found = sorted({class_of(path) for path in paths})
    try:
        text = args.classes.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise UsageError(f'{args.classes} is no text in UTF-8.') from error
    classes = [line.strip() for line in text.splitlines() if line.strip()]
    twice = [name for name, n in Counter(classes).items() if n > 1]
    if twice:
        raise UsageError(f'{args.classes} has {twice[0]!r} twice.')
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise UsageError(
            f'{args.classes} lacks {len(unknown)} of the {len(found)} '
            f'sub-folders: {", ".join(map(repr, unknown[:5]))}. Add them, '
            'or move them elsewhere.'
        )
    return classes


def split(
    entries: list[Entry], share: float, seed: int
) -> tuple[list[Entry], list[Entry]]:
    """Divide the videos of each class at random.

    What becomes of a class does not depend on the others.

    Args:
        entries: All of them.
        share: Of each class that goes to the second part, in [0, 1). Of two
            videos and more, at least one stays in either part.
        seed: Of the random choice.

    Returns:
        The parts, each in the order of ``entries``.
    """
    groups = defaultdict(list)
    for entry in entries:
        groups[entry.label].append(entry)
    val: set[Entry] = set()
    for group in groups.values():
        if not share or len(group) < 2:
            continue
        count = min(max(round(share * len(group)), 1), len(group) - 1)
        val.update(random.Random(seed).sample(group, count))
    return (
        [entry for entry in entries if entry not in val],
        [entry for entry in entries if entry in val],
    )


def write_list(path: Path, entries: list[Entry]) -> None:
    """Write a list that reads back the same; without entries, none.

    Raises:
        UsageError: If a path is such that it does not.
    """
    if not entries:
        path.unlink(missing_ok=True)
        return
    with complete_file(path) as temporary:
        if reads_back(temporary, entries):
            return
        culprit = next(e for e in entries if not reads_back(temporary, [e]))
        raise UsageError(
            f'The name {culprit.path!r} cannot be written in a list, because '
            'of a line break, a space or quote at its start, or letters that '
            'are not UTF-8; rename it.'
        )


def reads_back(path: Path, entries: list[Entry]) -> bool:
    """Write a list and see whether it is read as what it is."""
    try:
        write_lines(path, [entry.line() for entry in entries])
        if entries[0].num_frames < 0:
            return read_video_list(str(path)) == [
                (entry.path, entry.label) for entry in entries
            ]
        return read_frame_list(str(path)) == [
            dict(frame_dir=e.path, total_frames=e.num_frames, label=e.label)
            for e in entries
        ]
    except ValueError:  # a UnicodeEncodeError is one, too
        return False


def write_lines(path: Path, lines: list[str]) -> None:
    """Write a text file."""
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


def naming_of(names: list[str]) -> str:
    """What RobustVideoDataset has to know of how images are named."""
    parts = re.fullmatch(r'(.*?)(\d+)(\D*)', names[0])
    prefix, number, suffix = parts.groups() if parts else ('', '0', '')
    start = int(number)
    named = [
        f'{prefix}{i:0{len(number)}}{suffix}'
        for i in range(start, start + len(names))
    ]
    if named != names:
        return 'lacks images: their numbers have gaps'
    template = f'{prefix}{{:0{len(number)}}}{suffix}'
    return f'needs filename_tmpl={template!r}, start_index={start}'


def main() -> int:
    """Run, and turn a user's mistakes into one line."""

    def run() -> None:
        try:
            build(parse_args())
        except OSError as error:  # such as a folder without permission
            raise UsageError(str(error)) from error

    return run_tool(run)


if __name__ == '__main__':
    sys.exit(main())
