# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure the dense test of a recogniser beside that of stock MMAction2.

All views of a video are loaded and go through the network, stock and ours in
turn. First it is checked that all give the same scores.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import init_default_scope
from torch import Tensor

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.arguments import int_from, refuse_old_files

from .clips import Source, generate, given_videos
from .common import (
    Clock,
    add_device_argument,
    add_file_arguments,
    find_device,
    milliseconds,
    now,
    origin,
    publish,
    rounds,
    say,
    synchronize,
)
from .memory import peak_of_tensors, peak_on_gpu
from .networks import SIZES, Setup
from .testing_report import Round, Tests
from .testing_setup import CROPS, VIEWS, Contender, build_contenders


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py testing', description=__doc__.split('\n')[0]
    )
    add = parser.add_argument
    add(
        '--size',
        choices=list(SIZES),
        default='small',
        help='of the ViT (default: %(default)s)',
    )
    add(
        '--views',
        choices=list(VIEWS),
        default='2x3',
        help='clips x crops of a video; 2x3: over the whole video, the others '
        'with stride 4 (default: %(default)s)',
    )
    add(
        '--videos',
        metavar='DIR_OR_LIST',
        help='videos below a folder, or in a list (default: clips are '
        'generated)',
    )
    add('--prefix', metavar='DIR', help='where the paths of the list start')
    add(
        '--generate',
        type=int_from(1),
        default=4,
        metavar='N',
        help='clips to generate (default: %(default)s)',
    )
    add(
        '--max-testing-views',
        nargs='+',
        type=int_from(1),
        default=[],
        metavar='N',
        help='also ours with at most N views at once',
    )
    add('--amp', action='store_true', help='also ours in bfloat16')
    add(
        '--num-frames',
        type=int_from(1),
        default=16,
        help='frames of a clip (default: %(default)s)',
    )
    add(
        '--img-size',
        type=int_from(1),
        default=224,
        help='side of a view, pixels (default: %(default)s)',
    )
    add(
        '--rounds',
        type=int_from(1),
        default=8,
        help='videos that each tests (default: %(default)s)',
    )
    add(
        '--threads',
        '--num-threads',
        type=int_from(1),
        help='threads (default: as PyTorch has it)',
    )
    add('--no-memory', action='store_true', help='do not measure memory')
    add_device_argument(parser)
    add_file_arguments(parser, '--markdown')
    return parser.parse_args(argv)


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line says.

    Args:
        args: What :func:`parse_args` returns.

    Returns:
        All figures, as in the JSON file, and ``'markdown'``.

    Raises:
        UsageError: For what cannot be done, or scores that differ.
    """
    refuse_old_files([args.out, args.json], args.overwrite)
    num_views = VIEWS[args.views]['num_clips'] * CROPS
    if max(args.max_testing_views, default=0) >= num_views:
        raise UsageError(
            f'--max-testing-views must be less than {num_views}, the views '
            f'of {args.views}.'
        )
    init_default_scope('mmaction')
    device = find_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)  # as in the process of a loader
    torch.manual_seed(0)
    setup = Setup(
        SIZES[args.size], 1, args.num_frames, args.img_size, device.type
    )
    try:
        setup.grid  # noqa: B018  (checks that it divides evenly)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        source = _source(args, Path(folder))
        contenders = build_contenders(
            source, args.views, setup, device, args.max_testing_views, args.amp
        )
        measured = measure(
            f'dense test, ViT-{args.size[0].upper()}, {args.views} views of '
            f'{args.num_frames} frames of {args.img_size}x{args.img_size}; '
            f'{source.about}; {args.rounds} rounds',
            contenders,
            source,
            args.rounds,
            not args.no_memory,
        )
    return publish(
        args,
        origin(args, device),
        [measured.markdown()],
        **measured.as_dict(),
    )


def _source(args: argparse.Namespace, folder: Path) -> Source:
    if args.videos:
        return given_videos(args.videos, args.prefix, folder, args.rounds)
    say(f'generating {args.generate} clips')
    return generate(folder, args.generate)


TOLERANCE = 1e-4  # of a probability


def measure(
    title: str,
    contenders: Sequence[Contender],
    source: Source,
    num_rounds: int,
    with_memory: bool = True,
    clock: Clock = time.perf_counter,
) -> Tests:
    """Compare the scores of contenders, and time them in turn.

    Args:
        title: What is tested, for a reader.
        contenders: The first is stock MMAction2.
        source: The videos; a round is one of them.
        num_rounds: Rounds that count; there is one before, which warms up.
        with_memory: Whether memory is measured, in that one.
        clock: Tells the time where there is no GPU.

    Raises:
        UsageError: If scores are not those of stock, or a video is bad.
    """
    found: dict[str, list[Round]] = {c.name: [] for c in contenders}
    largest = dict.fromkeys(found, 0.0)
    memory: dict[str, int] = {}
    for number, order in rounds(contenders, num_rounds, warm_up=1):
        index = max(number, 0) % len(source.paths)
        scores = {}
        for contender in order:
            name = contender.name
            if number < 0 and with_memory:
                memory[name], scores[name] = _memory(contender, index)
            else:
                seconds, scores[name] = _time(contender, index, clock)
                if number >= 0:
                    found[name].append(seconds)
        video = source.paths[index].resolve().name
        differences = compare(contenders, scores, video)
        # Not max(), which would lose NaN.
        largest = {
            n: float(np.maximum(largest[n], differences[n])) for n in largest
        }
    return Tests(title, contenders[0].name, found, largest, memory)


def compare(
    contenders: Sequence[Contender], scores: dict[str, Tensor], video: str
) -> dict[str, float]:
    """The largest difference of a probability from that of stock.

    Args:
        contenders: The first is stock MMAction2.
        scores: For each its probabilities (classes,).
        video: Name of what they are of.

    Raises:
        UsageError: If one is larger than :data:`TOLERANCE`, but for those in
            mixed precision.
    """
    stock = contenders[0].name
    found = {}
    for contender in contenders:
        name = contender.name
        difference = float((scores[name] - scores[stock]).abs().max())
        # NaN is not within the tolerance, either.
        if contender.dtype is None and not difference <= TOLERANCE:
            raise UsageError(
                f'{video!r}: the scores of {name!r} are not those of '
                f'{stock!r}: they differ by up to {difference:.2g}, more than '
                f'{TOLERANCE:g}. Their times cannot be compared.'
            )
        found[name] = difference
    return found


def _time(
    contender: Contender, index: int, clock: Clock
) -> tuple[Round, Tensor]:
    """Seconds of a video, and its probabilities."""
    start = now(contender.device, clock)
    batch = contender.load(index)
    loaded = now(contender.device, clock)
    scores = contender.scores(batch)
    end = now(contender.device, clock)
    synchronize(contender.device)
    data, model = milliseconds(start, loaded), milliseconds(loaded, end)
    return dict(data=data / 1e3, model=model / 1e3), scores


def _memory(contender: Contender, index: int) -> tuple[int, Tensor]:
    """Bytes that a test step adds at its peak, and its probabilities."""
    batch = contender.load(index)
    found: list[Tensor] = []

    def step() -> None:
        found[:] = [contender.scores(batch)]

    if contender.device.type == 'cpu':
        return peak_of_tensors(step), found[0]
    step()  # libraries take their workspace
    return peak_on_gpu(step), found[0]
