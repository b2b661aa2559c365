#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure video object segmentation beside the official code of others.

Propagation beside that of DINO and CropMAE, with the features given and from
image files to masks, and the scores beside the program of DAVIS. Clones of
them are named on the command line; without any, ours is measured alone.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
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
from model_memory import measure_apart
from vos_clones import CLONES, check_clone
from vos_cropmae import CropMAE
from vos_official import Dino
from vos_propagation import crw_propagation, dino_propagation
from vos_report import NOTES, Measured, time_in_turn
from vos_setup import Setup, copy_sequences, write_generated
from vos_tasks import scoring
from vos_whole import end_to_end, measure_memory

import mmmotionmae  # noqa: F401  (registers everything)
from mmmotionmae.apis import UsageError
from mmmotionmae.cli.arguments import run_tool

TASKS = ('dino', 'end-to-end', 'crw', 'scoring')
SCORED_FRAMES = 20


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
    )
    add = parser.add_argument
    add(
        '--tasks',
        nargs='+',
        choices=TASKS,
        default=list(TASKS),
        help="propagation in DINO's form, all of it from files to files, "
        "propagation in CRW's form, J and F (default: all)",
    )
    for flag, (_, address) in CLONES.items():
        add(f'--{flag}', metavar='DIR', help=f'clone of {address}')
    add(
        '--data',
        metavar='DAVIS_ROOT',
        help='frames and masks (default: a generated sequence)',
    )
    add('--sequences', nargs='+', help='of these (default: all)')
    add(
        '--frames',
        type=count,
        default=12,
        help='frames of a sequence (default: %(default)s)',
    )
    add(
        '--size',
        type=count,
        default=480,
        help='short side of frames that encoders see, and of generated ones '
        '(default: %(default)s)',
    )
    add(
        '--arch',
        choices=['small', 'base'],
        default='small',
        help='size of the ViT (default: %(default)s)',
    )
    add(
        '--patch-size',
        type=int,
        choices=[8, 16],
        default=16,
        help='of the ViT (default: %(default)s)',
    )
    add(
        '--rounds',
        type=count,
        default=5,
        help='steps of each that count (default: %(default)s)',
    )
    add('--threads', type=count, help='threads (default: as PyTorch has it)')
    add('--no-memory', action='store_true', help='do not measure memory')
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
        UsageError: For what cannot be done.
    """
    refuse_old_files([args.out, args.json], args.overwrite)
    if args.sequences and not args.data:
        raise UsageError('--sequences needs --data.')
    if args.frames < 3:
        raise UsageError('--frames must be at least 3.')
    if args.size < 64 or args.size % 16:
        raise UsageError('--size must be a multiple of 16, at least 64.')
    clones = _clones(args)
    init_default_scope('mmaction')
    device = find_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if args.data:
            copy_sequences(args.data, args.sequences, root, args.frames)
        else:
            write_generated(root, args.frames, args.size)
        setup = Setup(
            folder,
            args.size,
            args.arch,
            args.patch_size,
            str(device),
            args.threads,
            clones['dino'],
        )
        tables = [
            measure(name, setup, clones, args)
            for name in TASKS
            if name in args.tasks
        ]
    return publish(
        args,
        origin(args, device),
        [*(table.markdown() for table in tables), NOTES],
        tables=[table.as_dict() for table in tables],
    )


def _clones(args: argparse.Namespace) -> dict[str, str | None]:
    """The folders of the official code; says which are not given."""
    clones = {}
    for flag, (_, address) in CLONES.items():
        folder = getattr(args, flag.replace('-', '_'))
        if folder:
            check_clone(flag, folder)
        else:
            say(f'without --{flag}: to compare with it, clone {address}')
        clones[flag] = folder
    return clones


def measure(
    name: str,
    setup: Setup,
    clones: dict[str, str | None],
    args: argparse.Namespace,
) -> Measured:
    """Measure one of :data:`TASKS`.

    Args:
        name: Which.
        setup: What all have in common.
        clones: Folders of the official code.
        args: The command line.
    """
    device, patch = torch.device(setup.device), setup.patch_size
    say(f'preparing {name}')
    if name == 'scoring':
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        size = args.size, round(args.size * 854 / 480)
        task = scoring(clones['davis2017-evaluation'], SCORED_FRAMES, size)
        try:
            return time_in_turn(task, args.rounds)
        finally:
            cv2.setNumThreads(threads)
    if name == 'crw':
        cropmae = None
        if clones['cropmae']:
            cropmae = CropMAE(clones['cropmae'], patch, setup.crw_size, device)
        return time_in_turn(crw_propagation(setup, cropmae), args.rounds)
    dino = None
    if clones['dino']:
        dino = Dino(clones['dino'], patch, setup.size, device)
    if name == 'dino':
        return time_in_turn(dino_propagation(setup, dino), args.rounds)
    task = end_to_end(setup, dino)
    if not args.no_memory:
        for key in task.steps:
            say(f'memory of {key}')
            task.memory[key] = measure_apart(
                measure_memory,
                key,
                setup,
                way_out='Choose a larger --patch-size, or --no-memory.',
            )
    return time_in_turn(task, args.rounds)


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: benchmark(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
