#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Make smaller copies of videos, of which any part is quickly decoded."""

import argparse
import json
import os.path as osp
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mmmotionmae.cli.arguments import add_job_arguments, int_from

PRESETS = (
    'ultrafast superfast veryfast faster fast medium slow slower veryslow'
).split()


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Make smaller copies of all videos below a folder: '
        'H.264 in mp4, without sound, with frequent key frames, so that a '
        'clip from the middle is quickly decoded. Every frame and its time '
        'stay; those that a display would turn are turned. Videos that are '
        'small already are not enlarged, but also written anew, for the key '
        'frames. Called again, it goes on where it was: copies that exist '
        'are left as they are. Videos that cannot be read are named in '
        'DST/failed.txt.'
    )
    parser.add_argument('src', metavar='SRC', help='where the videos are')
    parser.add_argument(
        'dst',
        metavar='DST',
        type=Path,
        help='where the copies go, in the same sub-folders, as .mp4',
    )
    parser.add_argument(
        '--short-side',
        type=int_from(2),
        default=320,
        metavar='PIXELS',
        help='of the copies, even (default: %(default)s)',
    )
    parser.add_argument(
        '--crf',
        type=int_from(0, 51),
        default=18,
        metavar='CRF',
        help='quality of x264, from 0 (lossless) to 51; 6 more halve the '
        'size (default: %(default)s)',
    )
    parser.add_argument(
        '--keyframe-interval',
        type=int_from(1),
        default=32,
        metavar='FRAMES',
        help='a key frame comes at least every so many frames; fewer: '
        'larger files, faster access (default: %(default)s)',
    )
    parser.add_argument(
        '--preset',
        choices=PRESETS,
        default='medium',
        help='of x264; slower: smaller files (default: %(default)s)',
    )
    add_job_arguments(parser, time_limit=600)
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='remove earlier copies of these videos and make them anew',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

import av
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.reformatter import (
    ColorRange,
    Colorspace,
    Interpolation,
    VideoReformatter,
)

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.running import run_job_tool
from mmmotionmae.datasets.annotation import find_videos
from mmmotionmae.datasets.readers import PyAVReader
from mmmotionmae.utils.errors import VideoError
from mmmotionmae.utils.files import complete_file
from mmmotionmae.utils.processes import run_jobs
from mmmotionmae.utils.time_left import progress_bar


class Settings(NamedTuple):
    """How videos are written; all of a folder alike."""

    short_side: int
    crf: int
    keyframe_interval: int
    preset: str


class Copy(NamedTuple):
    """A video and where its copy goes."""

    source: str
    target: Path


def resize(args: argparse.Namespace) -> None:
    """Write the copies and ``failed.txt``, and print the counts.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: If copies would get in the way of other files.
        FileNotFoundError: If there is no such folder, or no video in it.
    """
    if args.short_side % 2:
        raise UsageError(f'--short-side must be even, not {args.short_side}.')
    settings = Settings(
        args.short_side, args.crf, args.keyframe_interval, args.preset
    )
    copies = plan(args.src, args.dst)
    prepare(args.dst, copies, settings, args.overwrite)
    todo = [copy for copy in copies if not copy.target.exists()]
    results = run_jobs(
        partial(write_copy, settings=settings),
        todo,
        args.num_workers,
        args.time_limit,
        clean_up=lambda copy: unfinished(copy).unlink(missing_ok=True),
    )
    failed = []
    done = len(copies) - len(todo)
    bar = progress_bar(len(copies), 'video', done)
    with bar, closing(results):
        for copy, _, reason in results:
            if reason:
                path = osp.relpath(copy.source, args.src)
                failed.append(f'{path}\t{reason}\n')
                bar.set_postfix(failed=len(failed), refresh=False)
            bar.update()
    report = args.dst / 'failed.txt'
    report.unlink(missing_ok=True)
    if failed:
        with complete_file(report) as temporary:
            with open(
                temporary, 'w', encoding='utf-8', errors='replace'
            ) as file:
                file.writelines(sorted(failed))
    print(
        f'{args.dst}: {len(todo) - len(failed)} copies made, {done} were '
        f'there, {len(failed)} failed' + (f' (see {report})' if failed else '')
    )


def plan(src: str, dst: Path) -> list[Copy]:
    """Which copies are to be made.

    Raises:
        UsageError: If a copy would lie among the sources, or two have the
            same name.
        FileNotFoundError: If there is no such folder, or no video in it.
    """
    paths = find_videos(src, tell=print)
    folders = [osp.realpath(src), osp.realpath(dst)]
    if osp.commonpath(folders) in folders:
        raise UsageError(
            f'Neither of {src!r} and {str(dst)!r} may lie in the other, so '
            'that copies and originals stay apart. Choose another DST.'
        )
    targets: dict[Path, str] = {}
    for path in paths:
        target = (dst / path).with_suffix('.mp4')
        if target in targets:
            raise UsageError(
                f'{targets[target]!r} and {path!r} would both become '
                f'{str(target)!r}. Rename one, or move it out of {src!r}.'
            )
        targets[target] = path
    return [Copy(osp.join(src, p), t) for t, p in targets.items()]


def prepare(
    dst: Path, copies: list[Copy], settings: Settings, overwrite: bool
) -> None:
    """Make sure that all copies in a folder are made in the same way.

    Raises:
        UsageError: If there are others.
    """
    note = dst / 'resize_videos.json'
    existing = [copy.target for copy in copies if copy.target.exists()]
    if overwrite:
        for target in existing:
            target.unlink()
    elif existing:
        try:
            earlier = json.loads(note.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            raise UsageError(
                f'{str(existing[0])!r} is there already, and not as a copy '
                'of this tool. Choose another DST, or replace what is there '
                '(--overwrite).'
            ) from None
        if earlier != settings._asdict():
            raise UsageError(
                f'The copies in {str(dst)!r} were made with {earlier}. Use '
                'the same settings, choose another DST, or make all copies '
                'anew (--overwrite).'
            )
    with complete_file(note) as temporary:
        temporary.write_text(json.dumps(settings._asdict()), encoding='utf-8')


def unfinished(copy: Copy) -> Path:
    """Where :func:`complete_file` has a copy written."""
    return copy.target.with_name(f'{copy.target.name}.tmp')


def write_copy(copy: Copy, settings: Settings) -> None:
    """Write one copy.

    Raises:
        VideoError: If the source cannot be read to its end.
    """
    options = {
        'crf': str(settings.crf),
        'g': str(settings.keyframe_interval),
        'preset': settings.preset,
        'threads': '1',
        # Clips are then decoded twice as fast, for a tenth more bytes.
        'tune': 'fastdecode',
        'b-pyramid': 'none',
    }
    with (
        complete_file(copy.target) as temporary,
        Source(copy.source) as video,
        av.open(
            str(temporary),
            'w',
            format='mp4',
            options={'movflags': 'faststart'},
        ) as container,
    ):
        stream = container.add_stream(
            'libx264', rate=video.rate, pix_fmt='yuv420p', options=options
        )
        for frame in video.resized(settings.short_side):
            encoder = stream.codec_context
            if not encoder.is_open:
                encoder.width, encoder.height = frame.width, frame.height
                encoder.time_base = frame.time_base
                encoder.color_range = frame.color_range
                encoder.colorspace = frame.colorspace
                encoder.color_primaries = frame.color_primaries
                encoder.color_trc = frame.color_trc
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Source(PyAVReader):
    """A video to be copied.

    Args:
        path: The file.

    Attributes:
        rate (Fraction): Average frames per second.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.rate = Fraction(self._stream.average_rate or 25)
        self._time_base = 1 / self.rate
        self._times = list(range(self.num_frames))
        if self.index.timed:
            self._time_base = self._stream.time_base
            self._times = [t - self.index.times[0] for t in self.index.times]

    def resized(self, short_side: int) -> Iterator[Any]:
        """Decode all frames, resized and turned upright.

        Args:
            short_side: In pixels. Smaller videos stay as they are, but for
                odd sides, which lose a pixel.

        Yields:
            Frames in yuv420p. Their times count from the first; without
            usable ones in the file, they follow from the rate.

        Raises:
            VideoError: If a frame cannot be decoded, or there are more or
                fewer than there should be.
        """
        scaler = VideoReformatter()
        for number, frame in self._decoded():
            if not number:
                width, height = small_size(
                    frame.width, frame.height, short_side
                )
                turn = turner(width, height, round(frame.rotation / 90))
            small = scaler.reformat(
                as_yuv(frame),
                width,
                height,
                'yuv420p',
                interpolation=Interpolation.BICUBIC,
                threads=1,
            )
            small = turn(small)
            small.time_base = self._time_base
            small.pts = self._times[number]
            small.pict_type = 0  # else x264 takes it over
            yield small

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        """All frames as they are, and their numbers."""
        self.close()  # it has been read to its end
        self._open()
        before, number = self.index.num_before, 0
        for packet in self._packets():
            if before and packet.size:
                before -= 1
                continue
            for frame in self._decode(packet, number):
                if number == self.num_frames:
                    raise VideoError(f'there are more than {number} frames')
                yield number, frame
                number += 1
        if number < self.num_frames:
            raise self.lost(number, f'the video ends after {number}')


def small_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Sides of a copy: even, not larger, of about the same shape."""
    short = min(width, height)
    new = min(short, short_side)

    def resized(side: int) -> int:
        nearest = (side * new + short) // (2 * short) * 2
        return max(min(nearest, side // 2 * 2), 2)

    return resized(width), resized(height)


def as_yuv(frame: Any) -> Any:
    """A frame of any format in YUV, so that it has tags for YUV."""
    if not (frame.format.is_rgb or frame.format.has_palette):
        return frame
    return frame.reformat(
        format='yuv444p',
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )


def turner(width: int, height: int, turns: int) -> Callable[[Any], Any]:
    """What turns yuv420p frames of a size by quarters, counterclockwise."""
    filters = {
        0: [],
        1: [('transpose', 'cclock')],
        2: [('hflip', ''), ('vflip', '')],
        3: [('transpose', 'clock')],
    }[turns % 4]
    if not filters:
        return lambda frame: frame
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=width,
            height=height,
            format=VideoFormat('yuv420p'),
            time_base=Fraction(1, 1000),  # of no importance
        ),
        *[graph.add(name, args) for name, args in filters],
        graph.add('buffersink'),
    ).configure()

    def turn(frame: Any) -> Any:
        graph.push(frame)
        return graph.pull()

    return turn


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_job_tool(lambda: resize(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
