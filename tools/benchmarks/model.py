# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure our model beside the official VideoMAE and that of transformers.

All take steps in turn, in one run, on the same random input. Other modes
compare our encoder with stock MMAction2's in fine-tuning and feature
extraction.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from mmengine.registry import init_default_scope

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.arguments import int_from, positive, refuse_old_files

from .common import (
    add_file_arguments,
    find_device,
    origin,
    publish,
    say,
)
from .contenders import (
    CONTENDERS,
    REFERENCES,
    build,
    measure_memory,
    why_not,
    with_compiled,
)
from .memory import Memory, measure_apart
from .model_report import NOTES, Steps
from .networks import SIZES, Setup
from .steps import peak_tflops, time_in_turn


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py model',
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        '--mode',
        nargs='+',
        choices=list(CONTENDERS),
        default=['pretrain'],
        help='a step of pre-training, a step of fine-tuning, a forward pass',
    )
    add('--sizes', nargs='+', choices=list(SIZES), default=['base'])
    names = dict.fromkeys(key for keys in CONTENDERS.values() for key in keys)
    add(
        '--contenders',
        nargs='+',
        choices=list(names),
        help='who takes part (default: all that can)',
    )
    add(
        '--videomae-checkout',
        metavar='DIR',
        help='clone of https://github.com/MCG-NJU/VideoMAE, to take part',
    )
    add(
        '--hf-attention',
        choices=['sdpa', 'eager'],
        default='sdpa',
        help='attention of transformers',
    )
    add('--compile', action='store_true', help='also compiled, side by side')
    add('--batch-size', type=int_from(1), default=2, help='clips of a step')
    add('--num-frames', type=int_from(1), default=16, help='frames of a clip')
    add(
        '--img-size',
        type=int_from(1),
        default=224,
        help='side of a frame, pixels',
    )
    add(
        '--rounds',
        type=int_from(1),
        default=12,
        help='steps of each that count',
    )
    add(
        '--threads',
        type=int_from(1),
        help='threads (default: as PyTorch has it)',
    )
    add(
        '--peak-tflops',
        type=positive,
        help='TFLOP/s of the machine at best (default: known or measured)',
    )
    add('--no-memory', action='store_true', help='do not measure memory')
    add(
        '--device',
        choices=['cpu', 'cuda'],
        help='None: cuda if there is one',
    )
    add_file_arguments(parser, '--markdown')
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
    init_default_scope('mmaction')
    device = find_device(args.device)
    if args.compile and device.type == 'cpu' and not has_compiler():
        raise UsageError('--compile needs a C++ compiler, g++ or clang++.')
    if args.threads:
        torch.set_num_threads(args.threads)
    setups = {name: _setup(name, args, device.type) for name in args.sizes}
    chosen = {mode: choose(mode, args, setups) for mode in args.mode}
    if device.type == 'cuda':
        torch.backends.cudnn.benchmark = True  # as the official code has it
    peak, source = args.peak_tflops, 'as given'
    if peak is None:
        peak, source = peak_tflops(device.type)
    tables = [
        measure(mode, name, setup, chosen[mode], peak, args)
        for mode in args.mode
        for name, setup in setups.items()
    ]
    facts = origin(args, device)
    facts['versions']['transformers'] = version('transformers')
    texts = [table.markdown() for table in tables]
    return publish(
        args,
        facts,
        [*texts, NOTES.format(peak=peak, source=source)],
        peak=source,
        tables=[table.as_dict() for table in tables],
    )


def choose(
    mode: str, args: argparse.Namespace, setups: dict[str, Setup]
) -> list[str]:
    """The contenders of a mode.

    Raises:
        UsageError: If one that was asked for cannot take part, or none is.
    """
    setup = next(iter(setups.values()))
    keys = []
    for key in CONTENDERS[mode]:
        if args.contenders and key not in args.contenders:
            continue
        reason = why_not(key, setup)
        if reason and args.contenders:
            raise UsageError(f'The contender {key!r} {reason}.')
        if reason:
            say(f'{mode}: without {key!r}, which {reason}')
        else:
            keys.append(key)
    if not keys:
        raise UsageError(
            f'None of the --contenders takes part in {mode!r}; there are '
            f'{", ".join(CONTENDERS[mode])}.'
        )
    return keys


def measure(
    mode: str,
    name: str,
    setup: Setup,
    keys: Sequence[str],
    peak: float,
    args: argparse.Namespace,
) -> Steps:
    """Measure contenders at one size.

    Args:
        mode: What they do.
        name: The size.
        setup: What they have in common.
        keys: Who takes part.
        peak: What the machine can do, in TFLOP/s.
        args: The command line.
    """
    say(f'{mode}, {name}')
    variants = with_compiled(keys) if args.compile else list(keys)
    memory: dict[str, Memory] = {}
    if not args.no_memory:  # first, while this process is small
        for key in variants:
            say(f'memory of {key}')
            memory[key] = measure_apart(
                measure_memory,
                mode,
                key,
                setup,
                way_out='Choose a smaller --batch-size, or --no-memory.',
            )
    contenders = {key: build(mode, key, setup) for key in variants}
    entrants = list(contenders.values())
    rounds, warm_up = time_in_turn(entrants, setup, args.rounds)
    side = setup.img_size
    return Steps(
        mode,
        f'{mode}, {name}, {setup.batch_size} clips of {setup.num_frames} '
        f'frames of {side}x{side}, {args.rounds} rounds',
        setup.batch_size,
        rounds,
        warm_up,
        {contender.name: contender.step_flops for contender in entrants},
        [
            contenders[key].name
            for key in REFERENCES[mode]
            if key in contenders
        ],
        peak,
        {contenders[key].name: found for key, found in memory.items()},
    )


def _setup(name: str, args: argparse.Namespace, device: str) -> Setup:
    setup = Setup(
        SIZES[name],
        args.batch_size,
        args.num_frames,
        args.img_size,
        device,
        args.threads,
        checkout=args.videomae_checkout,
        hf_attention=args.hf_attention,
    )
    try:
        setup.grid  # noqa: B018  (checks that it divides evenly)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return setup


def has_compiler() -> bool:
    """Whether there is what `torch.compile` needs on a CPU."""
    names = (os.environ.get('CXX'), 'g++', 'clang++')
    return any(name and shutil.which(name) for name in names)
