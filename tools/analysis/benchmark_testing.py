#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure the dense test of a recogniser beside that of stock MMAction2.

All views of a video are loaded and go through the network, stock and ours in
turn. First it is checked that all give the same scores.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from benchmark_clips import Source, generate, given_videos
from benchmark_machine import find_device, origin
from benchmark_output import (
    add_device_argument,
    add_file_arguments,
    count,
    publish,
    refuse_old_files,
)
from benchmark_rounds import say
from mmengine.registry import init_default_scope
from model_setup import Setup
from model_sizes import SIZES
from testing_setup import CROPS, VIEWS, build_contenders
from testing_timing import measure

import mmmotionmae  # noqa: F401  (registers everything)
from mmmotionmae.apis import UsageError
from mmmotionmae.cli.arguments import run_tool


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
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
        type=count,
        default=4,
        metavar='N',
        help='clips to generate (default: %(default)s)',
    )
    add(
        '--max-testing-views',
        nargs='+',
        type=count,
        default=[],
        metavar='N',
        help='also ours with at most N views at once',
    )
    add('--amp', action='store_true', help='also ours in bfloat16')
    add(
        '--num-frames',
        type=count,
        default=16,
        help='frames of a clip (default: %(default)s)',
    )
    add(
        '--img-size',
        type=count,
        default=224,
        help='side of a view, pixels (default: %(default)s)',
    )
    add(
        '--rounds',
        type=count,
        default=8,
        help='videos that each tests (default: %(default)s)',
    )
    add(
        '--threads',
        '--num-threads',
        type=count,
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


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: benchmark(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
