#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Decode videos and write a list of those that are good."""

import argparse
import os
import os.path as osp
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmmotionmae.cli.arguments import (
    add_job_arguments,
    add_list_arguments,
    int_from,
)
from mmmotionmae.utils.choices import DECODERS


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Decode every frame of every video, and write a list of '
        'the good ones, and of the bad ones with the reasons. A check that '
        'was interrupted goes on where it was: what has been found is kept '
        'in <out>.progress.jsonl, also after the end, and holds until a file '
        'changes; remove it to check everything anew.'
    )
    parser.add_argument(
        'videos',
        metavar='LIST_OR_FOLDER',
        help='a list of any form that RobustVideoDataset takes; or a '
        'folder, of which all videos are checked; or a video',
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='CLEAN_LIST',
        help='where the lines of the good videos go, as they are; the bad '
        'ones go to <name>.bad.txt beside it: path, tab, reason',
    )
    parser.add_argument(
        '--prefix',
        metavar='FOLDER',
        help='what the paths of a list are relative to, also a URL '
        '(default: the current folder)',
    )
    parser.add_argument(
        '--frames',
        action='store_true',
        help='check folders of raw frames; lines are: folder, number of '
        'frames and, optionally, label; a rewritten image goes unnoticed by '
        'the next call',
    )
    parser.add_argument(
        '--decoder',
        choices=DECODERS,
        default='pyav',
        help='the one used in training (default: %(default)s)',
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='decode the first, middle and last frame only',
    )
    parser.add_argument(
        '--min-frames',
        type=int_from(1),
        default=1,
        metavar='N',
        help='videos with fewer frames are bad (default: %(default)s)',
    )
    add_list_arguments(parser)
    add_job_arguments(parser, time_limit=60)
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace an earlier clean list; videos found bad then are '
        'checked again',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import


from mmmotionmae.apis import UsageError
from mmmotionmae.cli.running import layout_of, run_job_tool
from mmmotionmae.datasets.annotation import (
    check_windows_paths,
    find_videos,
    kind_of,
    locate,
    open_list,
    quote,
    read_texts,
)
from mmmotionmae.datasets.readers import (
    FrameFolderReader,
    VideoReader,
    list_frames,
    open_video,
)
from mmmotionmae.utils.errors import AnnotationError, VideoError
from mmmotionmae.utils.files import complete_file
from mmmotionmae.utils.processes import run_jobs
from mmmotionmae.utils.progress import RecordFile
from mmmotionmae.utils.stores import find_member, is_there, is_url
from mmmotionmae.utils.time_left import progress_bar


class Video(NamedTuple):
    """What there is to check."""

    path: str  # of a file, or of a folder of frames
    num_frames: int | None = None  # that a list of folders says it has
    offset: int = 0  # of the first frame of these, from the first image
    start: int | None = None  # its number, where the list says that instead


class Line(NamedTuple):
    """A line of the list."""

    text: str  # '' if it cannot be written
    path: str  # as the list has it
    video: Video


class Verdict(NamedTuple):
    """What came of a check."""

    num_frames: int | None
    reason: str  # why it is bad; '': it is good


def check(args: argparse.Namespace) -> None:
    """Write the clean list and the bad ones, and print the counts.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: If nothing can be checked, or a list would be overwritten.
        FileNotFoundError: If there is no such list, or no video in a folder.
    """
    out, bad_out = args.out, args.out.with_suffix('.bad.txt')
    for path in (out, bad_out):
        if path.exists() and not args.overwrite:
            raise UsageError(
                f'{str(path)!r} exists already; choose another name for '
                '--out, or write over it (--overwrite).'
            )
    if out.exists() and osp.exists(args.videos) and out.samefile(args.videos):
        raise UsageError('--out must not be the list that is checked.')
    names, lines = read_lines(args)
    verdicts = check_all([line.video for line in lines], args)
    good, bad = [], []
    for line in lines:
        num_frames, reason = verdicts[line.video]
        if not line.text:
            reason = 'its name cannot be written in a list; rename it'
        elif num_frames is not None and num_frames < args.min_frames:
            reason = f'has {num_frames} frames, fewer than {args.min_frames}'
        if reason:
            bad.append(f'{line.path}\t{reason}')
        else:
            good.append(line.text)
    write_lines(bad_out, bad)
    if not bad:
        bad_out.unlink()
    write_lines(out, [names, *good] if names else good)
    print(f'{len(good)} good videos: {out}')
    print(f'{len(bad)} bad videos' + (f': {bad_out}' if bad else ''))


def read_lines(args: argparse.Namespace) -> tuple[str, list[Line]]:
    """What is to be checked.

    Returns:
        Names of columns, '' without, as the list has them; its entries.

    Raises:
        UsageError: If the list is bad, or none of its videos is there.
        FileNotFoundError: If there is no such list, or no video in a folder.
    """
    source, prefix = args.videos, args.prefix or ''
    if osp.isdir(source):
        if args.prefix is not None:
            raise UsageError('--prefix is for lists; this is a folder.')
        if args.frames:
            raise UsageError(
                '--frames needs a list; make one with build_file_list.py.'
            )
        return '', [
            Line(
                quote(path) if writable(path) else '',
                path,
                Video(osp.join(source, path)),
            )
            for path in find_videos(source, tell=print)
        ]
    if osp.isfile(source) and kind_of(source) == 'video':
        return '', [
            Line(
                quote(source) if writable(source) else '',
                source,
                Video(source),
            )
        ]
    layout = layout_of(args)
    try:
        listed = open_list(source, layout)
        check_windows_paths(source, listed, prefix)
    except AnnotationError as error:
        raise UsageError(str(error)) from error
    names, texts = read_texts(source, layout)
    lines = [
        Line(
            text,
            entry['path'],
            Video(
                locate(prefix, entry['path']),
                entry.get('total_frames'),
                entry.get('offset', 0),
                entry.get('start_index'),
            ),
        )
        for text, entry in zip(texts, listed.entries(), strict=True)
    ]
    if not any(is_there(line.video.path) for line in lines):
        raise UsageError(
            f'None of the {len(lines)} videos of {source!r} is there; the '
            f'first would be {lines[0].video.path!r}. Say with --prefix what '
            'the paths are relative to.'
        )
    return names, lines


def check_all(
    videos: Sequence[Video], args: argparse.Namespace
) -> dict[Video, Verdict]:
    """Check each video, unless an earlier call has done so."""
    progress = Progress(args)
    verdicts = {}
    for video in videos:
        verdict = progress.get(video)
        if verdict is not None:
            verdicts[video] = verdict
    if verdicts:
        print(f'{len(verdicts)} videos were checked earlier')
    todo = [video for video in dict.fromkeys(videos) if video not in verdicts]
    results = run_jobs(
        partial(
            decode, decoder=args.decoder, quick=args.quick, frames=args.frames
        ),
        todo,
        args.num_workers,
        args.time_limit,
    )
    bad = sum(bool(verdict.reason) for verdict in verdicts.values())
    bar = progress_bar(len(todo) + len(verdicts), 'video', len(verdicts))
    with bar, closing(results), closing(progress):
        for video, num_frames, reason in results:
            verdicts[video] = Verdict(num_frames, reason)
            progress.add(video, verdicts[video])
            bad += bool(reason)
            bar.set_postfix(bad=bad, refresh=False)
            bar.update()
    return verdicts


def decode(video: Video, decoder: str, quick: bool, frames: bool) -> int:
    """Decode a video, or some frames of it.

    Returns:
        How many frames it has, or those that a list names of it.

    Raises:
        VideoError: If one of them cannot be decoded.
    """
    reader: VideoReader
    first = 0
    if frames:
        reader = FrameFolderReader(video.path)
        first = first_frame(video)
    else:
        reader = open_video(video.path, decoder)
    with reader:
        total, wanted = reader.num_frames, video.num_frames
        last = total if wanted is None else first + wanted
        if not 0 <= first < total or last > total:
            says = f'{wanted or "some"} from place {first}'
            raise VideoError(
                f'there are {total} images, but the list says '
                f'{says if first else wanted}'
            )
        if not frames:  # of a file, all
            last = total
        # Asked for together, all frames in between would be decoded, too.
        middle = (first + last) // 2
        some = [[index] for index in sorted({first, middle, last - 1})]
        for indices in some if quick else [range(first, last)]:
            for _ in reader.frames(indices):
                pass
    return last - first


def first_frame(video: Video) -> int:
    """The place of the first frame among the images of its folder."""
    if video.start is None:
        return video.offset
    number = re.search(r'(\d+)\D*$', list_frames(video.path)[0])
    return video.start - (int(number[1]) if number else 1)


class Progress:
    """Verdicts that outlast an interruption.

    Args:
        args: What :func:`parse_args` returns.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._known: dict[tuple, Verdict] = {}
        self._keys: dict[Video, dict] = {}  # of before a video is checked
        self._file = RecordFile(
            args.out.with_name(f'{args.out.name}.progress.jsonl')
        )
        for record, _ in self._file.read():
            self._load(record)

    def _load(self, record: dict) -> None:
        time_limit, reason = record.pop('time_limit'), record.pop('reason')
        verdict = Verdict(record.pop('num_frames'), reason)
        stale = time_limit != self._args.time_limit or self._args.overwrite
        self._known.pop(tuple(record.values()), None)
        if not (reason and stale):
            self._known[tuple(record.values())] = verdict

    def _key(self, video: Video) -> dict:
        """What a verdict depends on; of files elsewhere, on the name."""
        member = find_member(video.path)
        try:
            stat = os.stat(member.shard if member else video.path)
            size, mtime = stat.st_size, stat.st_mtime_ns
        except (OSError, ValueError):
            size = mtime = -1
        path = video.path
        return dict(
            path=path if is_url(path) else osp.abspath(path),
            size=size,
            mtime_ns=mtime,
            listed_frames=video.num_frames,
            offset=video.offset,
            start=video.start,
            decoder='frames' if self._args.frames else self._args.decoder,
            quick=self._args.quick,
        )

    def get(self, video: Video) -> Verdict | None:
        """The verdict of an earlier call, if it still holds."""
        key = self._keys[video] = self._key(video)
        return self._known.get(tuple(key.values()))

    def add(self, video: Video, verdict: Verdict) -> None:
        """Write down a verdict on the file as :meth:`get` has seen it."""
        record = self._keys[video] | dict(
            time_limit=self._args.time_limit, **verdict._asdict()
        )
        self._file.add(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def writable(path: str) -> bool:
    """Whether a path can stand in a list."""
    try:
        path.encode('utf-8')
    except UnicodeEncodeError:
        return False
    return path == path.strip().lstrip('"') and path.splitlines() == [path]


def write_lines(path: Path, lines: list[str]) -> None:
    """Write a text file at once."""
    with complete_file(path) as temporary:
        with open(temporary, 'w', encoding='utf-8', errors='replace') as file:
            file.writelines(f'{line}\n' for line in lines)


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_job_tool(lambda: check(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
