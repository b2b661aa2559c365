# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure the data path beside that of stock MMAction2.

Both read the same spans of the same videos in the same run: on clips that are
generated for it, or on given ones. With ``--leak-check N`` it is the memory of
a loader's process that is measured.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import torch
from mmengine.registry import init_default_scope

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.arguments import int_from, refuse_old_files
from mmmotionmae.datasets.readers import READERS

from .clips import Source, extract_frames, generate, given_frames, given_videos
from .common import (
    Clock,
    about_machine,
    add_file_arguments,
    say,
    this_run,
    write_files,
)
from .data_paths import Reading, our_path, stock_path
from .data_report import (
    FRAME_FLOOR,
    NOTES,
    VIDEO_FLOOR,
    Speeds,
    memory_markdown,
)
from .data_stores import Place, store
from .data_timing import measure
from .memory import EVERY, FEWEST, check_memory

# The memory check needs many samples, so they are small.
SMALL_CLIP = dict(width=96, height=72, num_frames=40)
SMALL_READING = Reading(clip_len=16, frame_interval=2, size=64)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py data',
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        '--videos',
        metavar='DIR_OR_LIST',
        help='videos below a folder, or in a list; with --frames also a '
        'folder of folders of images (default: clips are generated)',
    )
    add('--prefix', metavar='DIR', help='where the paths of the list start')
    add(
        '--frames',
        action='store_true',
        help='also measure on raw frames: JPEG files of quality 95',
    )
    add(
        '--stores',
        action='store_true',
        help='also measure on the same videos in a tar shard, behind HTTP on '
        'this machine, and both',
    )
    add('--generate', type=int_from(1), default=8, help='clips to generate')
    add('--decoders', nargs='+', choices=list(READERS), default=list(READERS))
    add(
        '--repeats',
        nargs='+',
        type=int_from(1),
        default=[1, 4],
        metavar='R',
        help='clips made of a video once it is decoded',
    )
    add('--clip-len', type=int_from(1), default=16, help='frames of a clip')
    add(
        '--frame-interval',
        type=int_from(1),
        default=4,
        help='from one frame of a clip to the next',
    )
    add(
        '--size',
        type=int_from(1),
        default=224,
        help='side of the clips, pixels',
    )
    add(
        '--num-samples',
        type=int_from(1),
        default=48,
        help='videos that each data path reads; whole batches',
    )
    add(
        '--batch-size',
        type=int_from(1),
        default=8,
        help='videos in a batch; a round is a batch of every data path',
    )
    add(
        '--num-workers',
        type=int,
        default=0,
        help='also measure loaders with so many processes',
    )
    add(
        '--leak-check',
        type=int_from(1),
        metavar='N',
        help='instead draw N samples in one loader process with each decoder '
        'and watch its memory; clips that are generated for it are small',
    )
    add_file_arguments(parser)
    return parser.parse_args(argv)


def benchmark(
    args: argparse.Namespace, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Do what the command line says.

    Args:
        args: What :func:`parse_args` returns.
        clock: Tells the time.

    Returns:
        All figures, as in the JSON file, and ``'markdown'``.

    Raises:
        UsageError: For files that exist or cannot be read.
    """
    refuse_old_files([args.out, args.json], args.overwrite)
    if args.num_samples < args.batch_size:
        raise UsageError('--num-samples is less than one batch.')
    if args.leak_check and args.leak_check < FEWEST * EVERY:
        raise UsageError(f'--leak-check takes at least {FEWEST * EVERY}.')
    init_default_scope('mmaction')
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.leak_check:
            result, text = _check_memory(args, Path(folder))
        else:
            result, text = _measure_speed(args, Path(folder), clock)
    result = dict(
        **this_run(),
        cpus=os.cpu_count(),
        **about_machine(),
        settings=vars(args),
        **result,
    )
    write_files(args, result, text)
    return dict(result, markdown=text)


def _measure_speed(
    args: argparse.Namespace, folder: Path, clock: Clock
) -> tuple[dict[str, Any], str]:
    reading = Reading(args.clip_len, args.frame_interval, args.size)
    tables, texts, floors = [], [], []
    for source in _sources(args, folder):
        with ExitStack() as stack:
            elsewhere: list[Place] = []
            if args.stores and not source.raw_frames:
                elsewhere = stack.enter_context(store(source))
            measured = _measure_source(args, source, reading, elsewhere, clock)
        tables.append(measured.as_dict())
        texts.append(measured.markdown())
        floors.append(FRAME_FLOOR if source.raw_frames else VIDEO_FLOOR)
    texts.append(NOTES.format(floor='; '.join(floors)))
    return dict(tables=tables), '\n\n'.join(texts)


def _measure_source(
    args: argparse.Namespace,
    source: Source,
    reading: Reading,
    elsewhere: Sequence[Place],
    clock: Clock,
) -> Speeds:
    """Measure stock MMAction2 and ours, and ours on the videos elsewhere."""
    decoders = ['raw frames'] if source.raw_frames else args.decoders
    ours = [
        our_path(
            source,
            reading,
            args.decoders[0] if source.raw_frames else decoder,
            repeats,
            clock,
        )
        for decoder in decoders
        for repeats in sorted(set(args.repeats))
    ]
    stored = [
        our_path(source, reading, decoder, repeats, clock, place)
        for decoder in decoders
        for repeats in sorted(set(args.repeats))
        for place in elsewhere
    ]
    return measure(
        source,
        reading,
        stock_path(source, reading, clock),
        [*ours, *stored],
        args.num_samples // args.batch_size,
        args.batch_size,
        args.num_workers,
        clock,
    )


def _sources(args: argparse.Namespace, folder: Path) -> list[Source]:
    """What is read: videos, raw frames, or both."""
    if args.videos and args.frames:
        frames = given_frames(
            args.videos, folder / 'given_frames', args.num_samples
        )
        if frames is not None:
            return [frames]
    if args.videos:
        videos = given_videos(
            args.videos, args.prefix, folder / 'videos', args.num_samples
        )
    else:
        say(f'generating {args.generate} clips')
        videos = generate(folder / 'videos', args.generate)
    if not args.frames:
        return [videos]
    return [videos, extract_frames(videos, folder / 'frames')]


def _check_memory(
    args: argparse.Namespace, folder: Path
) -> tuple[dict[str, Any], str]:
    reading = Reading(args.clip_len, args.frame_interval, args.size)
    if args.videos or args.frames:
        sources = _sources(args, folder)
    else:
        sources = [generate(folder, args.generate, **SMALL_CLIP)]
        reading = SMALL_READING
    checks = []
    for source in sources:
        for decoder in args.decoders[: 1 if source.raw_frames else None]:
            path = our_path(source, reading, decoder, max(args.repeats))
            say(f'memory: {path.name}')
            checks.append(
                check_memory(
                    path.name, path.dataset, path.collate, args.leak_check
                )
            )
            path.check()
    about = '; '.join(source.about for source in sources)
    text = f'{memory_markdown(checks)}\n\nLoaded: {about}.'
    return dict(memory=[check.as_dict() for check in checks]), text
