#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Pack the videos of a list into tar shards, with a list of their places."""

import argparse
import hashlib
import json
import os
import os.path as osp
import re
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mmmotionmae.cli.arguments import int_from, positive


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Pack videos, as they are, into a few large tar files, '
        'and write list.txt, of which each line has the place of a video, '
        'SHARD.tar@OFFSET@SIZE, and what follows its path in LIST, such as '
        'a label. RobustVideoDataset reads that list, from a disk or, by '
        'range requests, from a store. Called again after an interruption, '
        'it goes on: shards that are complete are left as they are.'
    )
    parser.add_argument(
        'videos',
        metavar='LIST_OR_FOLDER',
        help='a list with a path on each line, and any labels; or a folder, '
        'of which all videos are packed',
    )
    parser.add_argument(
        'out', metavar='OUT', type=Path, help='where shards and list go'
    )
    parser.add_argument(
        '--prefix',
        metavar='FOLDER',
        help='what the paths of a list are relative to, also a URL '
        '(default: the current folder)',
    )
    parser.add_argument(
        '--shard-size',
        type=positive,
        default=1000,
        metavar='MB',
        help='a shard is full before it is larger, unless one video is '
        '(default: %(default)g)',
    )
    parser.add_argument(
        '--num-workers',
        type=int_from(1),
        default=len(os.sched_getaffinity(0)),
        metavar='N',
        help='shards at a time (default: one for each CPU, %(default)s)',
    )
    parser.add_argument(
        '--time-limit',
        type=positive,
        default=3600,
        metavar='SECONDS',
        help='a shard that takes longer is given up (default: %(default)g)',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='remove the shards and the list of an earlier call',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import


from mmmotionmae.apis import UsageError
from mmmotionmae.cli.running import run_job_tool
from mmmotionmae.datasets.annotation import (
    Layout,
    find_videos,
    locate,
    open_list,
    read_rows,
)
from mmmotionmae.datasets.annotation.layout import Row, make_row
from mmmotionmae.datasets.annotation.tables import form_of
from mmmotionmae.utils.deadlines import Deadline
from mmmotionmae.utils.errors import VideoError
from mmmotionmae.utils.files import complete_file, write_json
from mmmotionmae.utils.processes import run_jobs
from mmmotionmae.utils.stores import (
    find_member,
    find_store,
    is_plain,
    open_file,
)
from mmmotionmae.utils.time_left import progress_bar

NOTE = 'make_shards.json'


LIST = 'list.txt'


PART = '.part'


BLOCK = tarfile.BLOCKSIZE


CHUNK = 2**20


KINDS = dict(csv='CSV with names', json='JSON', jsonl='JSON Lines')


class Line(NamedTuple):
    """A line of the list."""

    path: str  # as the list has it
    rest: str  # what follows it
    values: tuple  # what is read from that: labels, a clip


class Entry(NamedTuple):
    """A video and its place."""

    source: str
    name: str  # in the shard
    size: int
    offset: int
    stamp: str  # what changes when the video does


class Shard(NamedTuple):
    """A tar file to be made."""

    path: Path
    entries: list[Entry]

    @property
    def size(self) -> int:
        """Bytes of the complete file: records, the last with two blocks."""
        last = self.entries[-1]
        end = last.offset + in_blocks(last.size) + 2 * BLOCK
        return -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def pack(args: argparse.Namespace) -> None:
    """Write the shards, then the list, and print the counts.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: If a video is missing or cannot be kept, or other files
            are in the way.
        FileNotFoundError: If there is no such list, or no video in a folder.
    """
    lines, prefix, layout = read_lines(args)
    shards = plan(lines, prefix, args.out, args.shard_size * 1e6)
    text = list_of(lines, shards)
    index = args.out / LIST
    if index.exists() and osp.exists(args.videos):
        if index.samefile(args.videos):
            raise UsageError(f'{str(index)!r} is the list that is packed.')
    with tempfile.TemporaryDirectory() as folder:  # before hours of packing
        trial = Path(folder, LIST)
        trial.write_text(text, encoding='utf-8')
        check_list(trial, lines, shards, layout)
    prepare(args.out, shards, text, args.overwrite)
    todo = [shard for shard in shards if not shard.path.exists()]
    results = run_jobs(
        write_shard,
        todo,
        args.num_workers,
        args.time_limit,
        clean_up=lambda shard: part_of(shard).unlink(missing_ok=True),
    )
    failed = []
    bar = progress_bar(len(shards), 'shard', len(shards) - len(todo))
    with bar, closing(results):
        for shard, _, reason in results:
            if reason:
                failed.append(f'{shard.path}: {reason}')
            bar.update()
    if failed:
        raise UsageError(
            f'{len(failed)} of {len(shards)} shards cannot be made, such as '
            f'{min(failed)}. The same command tries them again.'
        )
    for shard in shards:
        if shard.path.stat().st_size != shard.size:
            raise UsageError(
                f'{str(shard.path)!r} has not the {shard.size} bytes that it '
                'should: remove it and call this again.'
            )
    with complete_file(index) as part:
        part.write_text(text, encoding='utf-8')
        check_list(part, lines, shards, layout)
    size = sum(shard.size for shard in shards)
    print(
        f'{index}: {len(lines)} videos in {len(shards)} '
        f'shards of {size / 1e9:.3g} GB in all'
    )


def read_lines(args: argparse.Namespace) -> tuple[list[Line], str, Layout]:
    """What is to be packed, relative to which folder, and how it is listed.

    Raises:
        UsageError: If the list is bad, or its columns cannot be kept.
        FileNotFoundError: If there is no such list, or no video in a folder.
    """
    layout = Layout()
    if osp.isdir(args.videos):
        if args.prefix is not None:
            raise UsageError('--prefix is for lists; this is a folder.')
        paths = find_videos(args.videos)
        without = values_of(make_row('', 0, '', '-', {}, []))
        lines = [Line(path, '', without) for path in paths]
        return lines, args.videos, layout
    try:
        kind = form_of(args.videos, layout).kind
        if kind != 'text':
            raise UsageError(
                f'{args.videos} is a list in {KINDS[kind]}; shards are made '
                'of one with "path label", or "path start end label" (in '
                'seconds, with a decimal point), on each line, without names '
                'of columns: write it so.'
            )
        rows, layout = read_any_list(args.videos)
    except ValueError as error:
        raise UsageError(str(error)) from error
    lines = []
    for row in rows:
        quoted = '"' + row.path.replace('"', '""') + '"'
        starts = (row.path, f'"{row.path}"', quoted)
        start = next((x for x in starts if row.text.startswith(x)), None)
        if start is None:
            raise UsageError(
                f'{args.videos}: a line that does not begin with the path '
                f'of a video cannot be kept: {row.text!r}.'
            )
        rest = row.text[len(start) :]
        lines.append(Line(row.path, rest, values_of(row)))
    return lines, args.prefix or '', layout


def read_any_list(path: str) -> tuple[list[Row], Layout]:
    """The lines of a list with one number after each path, or several."""
    layout = Layout()
    try:
        open_list(path, layout)
    except ValueError:
        layout = Layout(multi_class=True)
        open_list(path, layout)
    return list(read_rows(path, layout)), layout


def values_of(row: Row) -> tuple:
    """What is read from a line, but for the path."""
    return row[Row._fields.index('labels') :]


def plan(
    lines: list[Line], prefix: str, out: Path, shard_size: float
) -> list[Shard]:
    """Where each video goes: in the order of the list, each once.

    Args:
        lines: What is packed.
        prefix: What their paths are relative to.
        out: The folder of the shards.
        shard_size: In bytes.

    Raises:
        UsageError: If videos are missing or empty, or have names that no tar
            file keeps, or that two share.
    """
    shards: list[Shard] = []
    names: dict[str, str] = {}
    missing, end = [], 0
    for path in dict.fromkeys(line.path for line in lines):
        source = locate(prefix, path)
        size = size_of(source)
        if not size:
            missing.append(source)
            continue
        windows = '\\' in path and not source.endswith(path)
        name = name_in_tar(path.replace('\\', '/') if windows else path, size)
        if name in names:
            raise UsageError(
                f'{names[name]!r} and {path!r} would have one name, '
                f'{name!r}: write one of them otherwise.'
            )
        names[name] = path
        room = BLOCK + in_blocks(size)
        if not shards or end + room > shard_size:
            shards.append(Shard(out / f'{len(shards):05}.tar', []))
            end = 0
        stamp = ''
        if is_plain(source):
            stamp = find_store(source).stamp(source, Deadline(None))
        entry = Entry(source, name, size, end + BLOCK, stamp)
        shards[-1].entries.append(entry)
        end += room
    if missing:
        raise UsageError(
            f'{len(missing)} of {len(lines)} videos are missing or empty, '
            f'such as {missing[0]!r}. check_videos.py makes a list without '
            'these; --prefix says what paths are relative to.'
        )
    return shards


def in_blocks(size: int) -> int:
    """Bytes that a content takes in a tar file."""
    return -(-size // BLOCK) * BLOCK


def size_of(source: str) -> int:
    """Bytes of a video; 0 if there is none."""
    member = find_member(source)
    if member is not None:
        return member.size
    try:
        return find_store(source).size(source, Deadline(None)) or 0
    except VideoError:
        return 0


def name_in_tar(path: str, size: int) -> str:
    """The name of a member.

    Raises:
        UsageError: If no tar file keeps it.
    """
    name = path
    if not is_plain(path):
        name = re.sub(r'^[\w:+.-]+://', '', path.replace('@', '-'))
    name = osp.normpath(name).lstrip('/')
    reason = ''
    if name.split('/')[0] == '..':
        reason = 'it leads out of the folder; give another --prefix'
    elif '\n' in name or '\0' in name:
        reason = 'it has a line break or a zero byte'
    else:
        try:
            header(name, size)
        except ValueError as error:  # a UnicodeEncodeError is one, too
            reason = str(error)
    if reason:
        raise UsageError(f'{path!r} cannot be kept in a tar file: {reason}.')
    return name


def header(name: str, size: int) -> bytes:
    """The header of a member, the same whoever packs it and when.

    Raises:
        ValueError: If name or size do not fit.
    """
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    # In this format the header holds all of the name and of the size.
    return info.tobuf(tarfile.USTAR_FORMAT, 'utf-8', 'strict')


def prepare(
    out: Path, shards: list[Shard], text: str, overwrite: bool
) -> None:
    """Make sure that what is in the folder belongs to the same videos.

    Args:
        out: The folder.
        shards: What it is to hold.
        text: Of the list.
        overwrite: Whether to remove what is there.

    Raises:
        UsageError: If there is something else.
    """
    listed = [
        (shard.path.name, *entry[1:])
        for shard in shards
        for entry in shard.entries
    ]
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    note, index = out / NOTE, out / LIST
    earlier = [*sorted(out.glob(5 * '[0-9]' + '.tar'))]
    earlier += [index] if index.exists() else []
    if overwrite:
        for path in earlier:
            path.unlink()
    elif earlier:
        known = ''
        if note.exists():
            known = json.loads(note.read_text(encoding='utf-8'))['videos']
        if known != digest:
            raise UsageError(
                f'{str(earlier[0])!r} is there already, and of other videos '
                'or sizes. Choose another OUT, or replace what is there '
                '(--overwrite).'
            )
        if index.exists() and index.read_text(encoding='utf-8') != text:
            raise UsageError(
                f'{str(index)!r} is there already, with other lines. Remove '
                'it, and it is written anew; the shards stay.'
            )
    write_json(note, dict(videos=digest, num_shards=len(shards)))


def part_of(shard: Shard) -> Path:
    """Where a shard is written until it is complete."""
    return shard.path.with_name(shard.path.name + PART)


def write_shard(shard: Shard) -> None:
    """Write a shard.

    Raises:
        VideoError: If a video cannot be read or has changed its size, or
            the shard is not read as it should be.
    """
    with complete_file(shard.path, PART) as part, open(part, 'wb') as file:
        for entry in shard.entries:
            file.write(header(entry.name, entry.size))
            try:
                copy(entry, file)
            except VideoError as error:
                raise VideoError(f'{entry.source!r}: {error}') from error
        file.write(bytes(shard.size - file.tell()))
        file.flush()
        check(part, shard.entries)


def copy(entry: Entry, file: BinaryIO) -> None:
    """Append a video, filled up to whole blocks.

    Raises:
        VideoError: If it cannot be read, or has not the size it had.
    """
    size = 0
    with open_file(entry.source) as source:
        for chunk in iter(partial(source.read, CHUNK), b''):
            file.write(chunk)
            size += len(chunk)
    if size != entry.size:
        raise VideoError(f'its size has changed from {entry.size} to {size}')
    file.write(bytes(-size % BLOCK))


def check(path: Path, entries: list[Entry]) -> None:
    """Compare the names, sizes and places in a shard with the plan.

    Raises:
        VideoError: If one differs.
    """
    with tarfile.open(path, 'r:', encoding='utf-8') as file:
        found = [(m.name, m.size, m.offset_data) for m in file]
    for entry, there in zip(entries, found, strict=True):
        if there != (entry.name, entry.size, entry.offset):
            raise VideoError(f'{entry.name!r} is read as {there}')


def list_of(lines: list[Line], shards: list[Shard]) -> str:
    """The list, in the order of the one that was read."""
    place_of = places_of(lines, shards)
    return ''.join(f'{place_of[x.path]}{x.rest}\n' for x in lines)


def places_of(lines: list[Line], shards: list[Shard]) -> dict[str, str]:
    """The place of each path."""
    places = (
        f'{shard.path.name}@{entry.offset}@{entry.size}'
        for shard in shards
        for entry in shard.entries
    )
    paths = dict.fromkeys(line.path for line in lines)
    return dict(zip(paths, places, strict=True))


def check_list(
    path: Path, lines: list[Line], shards: list[Shard], layout: Layout
) -> None:
    """Read a list back, and compare places, labels and clips.

    Args:
        path: The list.
        lines: What it was made of.
        shards: Likewise.
        layout: With which that was read.

    Raises:
        UsageError: If something is read otherwise.
    """
    place_of = places_of(lines, shards)
    try:
        rows = list(read_rows(str(path), layout))
    except ValueError as error:
        raise UsageError(f'The list would not be readable: {error}') from error
    found = [(row.path, values_of(row)) for row in rows]
    wanted = [(place_of[line.path], line.values) for line in lines]
    if found == wanted:
        return
    pairs = zip(found, wanted, lines, strict=False)
    line = next((x for a, b, x in pairs if a != b), lines[-1])
    raise UsageError(
        f'What follows {line.path!r}, {line.rest!r}, would not be read in '
        'the list of the shards as in this one: write "path label", or "path '
        'start end label", with one space between.'
    )


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_job_tool(lambda: pack(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
