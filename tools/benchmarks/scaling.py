# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure how the cost of a training step grows with frames and frame size.

The time of forward pass, backward pass and AdamW is set beside the number of
FLOPs, so that it shows whether anything grows faster than it should.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import init_default_scope

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.arguments import int_from, refuse_old_files

from .common import (
    add_device_argument,
    add_file_arguments,
    find_device,
    origin,
    publish,
)
from .networks import SIZES, Setup
from .scaling_report import Scaling, check_plot, markdown, plot
from .scaling_steps import Case, Point, Steps, measure


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py scaling',
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--model', choices=list(SIZES), default='base', help='network')
    add(
        '--frames',
        nargs='*',
        type=int_from(1),
        default=[8, 16, 32, 64],
        metavar='T',
        help='frames of a clip, at the frame size of the reference',
    )
    add(
        '--sizes',
        nargs='*',
        type=int_from(1),
        default=[112, 160, 224, 288, 336],
        metavar='S',
        help='side of the frames in pixels, at the frames of the reference',
    )
    add(
        '--reference',
        nargs=2,
        type=int_from(1),
        default=[16, 224],
        metavar=('T', 'S'),
        help='what the others are compared with; always measured',
    )
    add('--batch-size', type=int_from(1), default=1, help='clips in a step')
    add(
        '--rounds',
        type=int_from(1),
        default=5,
        help='times that each is measured',
    )
    add(
        '--with-cp',
        action='store_true',
        help='measure with activation checkpointing, too',
    )
    add('--amp', action='store_true', help='mixed precision (bfloat16)')
    add(
        '--plot',
        metavar='FILE.png|FILE.svg',
        help='draw time over tokens (needs matplotlib)',
    )
    add_device_argument(parser)
    add_file_arguments(parser)
    return parser.parse_args(argv)


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line says.

    Args:
        args: What :func:`parse_args` returns.

    Returns:
        All figures, as in the JSON file, and ``'markdown'``.

    Raises:
        UsageError: For files that exist, a device that does not, sizes that
            do not divide into tubelets, or too little memory.
    """
    refuse_old_files([args.out, args.json, args.plot], args.overwrite)
    check_plot(args.plot)
    device = find_device(args.device)
    init_default_scope('mmaction')
    setup = Setup(SIZES[args.model], args.batch_size, device=str(device))
    points = _points(args, setup)
    cases = [
        Case(point, with_cp)
        for with_cp in ([False, True] if args.with_cp else [False])
        for point in points
    ]
    facts = origin(args, device)
    steps = Steps(setup, cases, args.amp)
    times = measure(steps, cases, args.rounds)
    scalings = [
        Scaling(
            setup,
            Point(*args.reference),
            with_cp,
            {
                case.point: times[case]
                for case in cases
                if case.with_cp is with_cp
            },
        )
        for with_cp in sorted({case.with_cp for case in cases})
    ]
    precision = 'bfloat16' if args.amp else 'float32'
    about = f'MotionMAE, {args.model}, batch {args.batch_size}, {precision}'
    result = publish(
        args,
        facts,
        [f'**{about}**', markdown(scalings)],
        tables=[scaling.as_dict() for scaling in scalings],
    )
    if args.plot:
        plot(scalings, Path(args.plot), f'{about}, {facts["device"]}')
    return result


def _points(args: argparse.Namespace, setup: Setup) -> list[Point]:
    """The reference and all others, each once, by tokens."""
    frames, size = args.reference
    points = {Point(frames, size)}
    points |= {Point(number, size) for number in args.frames}
    points |= {Point(frames, side) for side in args.sizes}
    try:
        tokens = {point: point.tokens(setup) for point in points}
    except ValueError as error:
        raise UsageError(str(error)) from error
    for point, (all_tokens, visible) in tokens.items():
        if visible == all_tokens:
            raise UsageError(f'{point} is too small to mask anything.')
    return sorted(points, key=lambda point: (tokens[point], point.num_frames))
