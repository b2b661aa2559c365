# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure video object segmentation beside the official code of others.

Propagation beside that of DINO and CropMAE, with the features given and from
image files to masks, and the scores beside the program of DAVIS. Clones of
them are named on the command line; without any, ours is measured alone.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import init_default_scope

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.arguments import int_from, refuse_old_files

from .clones.cropmae import CropMAE
from .clones.dino import Dino
from .clones.imports import CLONES, check_clone
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
from .memory import measure_apart
from .table import MEMORY, NAME, Column, Measured, Table, quartiles, ratios
from .vos_propagation import crw_propagation, dino_propagation
from .vos_setup import Setup, copy_sequences, write_generated
from .vos_tasks import Task, end_to_end, measure_memory, scoring

TASKS = ('dino', 'end-to-end', 'crw', 'scoring')
SCORED_FRAMES = 20


NOTES = (
    'All take turns in one run. ms: median and quartiles over the rounds. x: '
    'times as fast; medians and quartiles of the ratios within a round.'
)


@dataclass
class Times(Measured):
    """The times of a task.

    Attributes:
        task: What was done.
        rounds: For each contender its rounds, milliseconds of a step.
    """

    task: Task
    rounds: dict[str, list[float]]

    def row(self, name: str) -> dict[str, Any]:
        """See the base class."""
        task, own = self.task, np.array(self.rounds[name])
        ms = quartiles(own / task.count)
        row: dict[str, Any] = dict(name=name, ms=ms, per_second=1e3 / ms[1])
        if task.reference in self.rounds:
            other = np.array(self.rounds[task.reference])
            row['ratio'] = ratios(other, own)
        if name in task.memory:
            row['memory'] = task.memory[name].as_dict()
        return row

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return dict(
            title=self.task.title,
            unit=self.task.unit,
            count=self.task.count,
            reference=self.task.reference,
            rows=self.rows(),
            rounds=self.rounds,
            **self.task.facts,
        )

    def markdown(self) -> str:
        """A table, with what else was found."""
        task = self.task
        columns = [
            NAME,
            Column(f'ms/{task.unit}', 'ms', '.2f'),
            Column(f'{task.unit}s/s', 'per_second', '.2f'),
            Column(f'x {task.reference}', 'ratio', '.2f', optional=True),
            *MEMORY,
        ]
        table = Table(self.rows(), columns).markdown()
        return '\n\n'.join([f'**{task.title}**', table, *_sentences(task)])


def _sentences(task: Task) -> list[str]:
    """What else was found, in words."""
    facts, found = task.facts, []
    if 'equal_pixels' in facts:
        found.append(
            f'{facts["equal_pixels"]:.4%} of the pixels of the masks are '
            f'equal, {facts["least_in_a_frame"]:.4%} in the worst of '
            f'{facts["compared_frames"]} frames.'
        )
    if 'neighborhood_seconds' in facts:
        found.append(
            "DINO's loop over the neighbourhood takes "
            f'{facts["neighborhood_seconds"]:.1f} s for each sequence; it is '
            'in none of the times.'
        )
    if 'largest_difference' in facts:
        found.append(
            'The largest difference of a score is '
            f'{facts["largest_difference"]:.1g}; the mean J is '
            f'{facts["mean_j"]:.3f}, the mean F {facts["mean_f"]:.3f}.'
        )
    if task.memory:
        found.append(
            'Memory: what a step adds at its peak to the weights, in a '
            'process of its own.'
        )
    return [' '.join(found)] if found else []


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py vos',
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
        type=int_from(1),
        default=12,
        help='frames of a sequence (default: %(default)s)',
    )
    add(
        '--size',
        type=int_from(1),
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
        type=int_from(1),
        default=5,
        help='steps of each that count (default: %(default)s)',
    )
    add(
        '--threads',
        type=int_from(1),
        help='threads (default: as PyTorch has it)',
    )
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
) -> Times:
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


def time_in_turn(
    task: Task, num_rounds: int, clock: Clock = time.perf_counter
) -> Times:
    """Let contenders take steps in turn.

    Args:
        task: In each round each contender takes one step.
        num_rounds: Rounds that count; there is one more to warm up.
        clock: Tells the time where there is no GPU.
    """
    say(task.title)
    found: dict[str, list[float]] = {name: [] for name in task.steps}
    for number, order in rounds(list(task.steps), num_rounds, warm_up=1):
        for name in order:
            synchronize(task.device)
            start = now(task.device, clock)
            task.steps[name]()
            end = now(task.device, clock)
            synchronize(task.device)
            if number >= 0:
                found[name].append(milliseconds(start, end))
    return Times(task, found)
