# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure exported classifiers beside PyTorch and stock MMAction2.

One random network classifies clips: in PyTorch, compiled, as ONNX, as an
exported program, and as MMAction2 has it, in turn. First it is checked that
all give the same scores.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.export import ClipModel, export_model
from mmmotionmae.apis.export.exporting import Run, open_onnx, open_program
from mmmotionmae.cli.arguments import int_from, refuse_old_files

from .common import (
    Clock,
    add_file_arguments,
    origin,
    publish,
    rounds,
    say,
)
from .networks import SIZES, Setup, recogniser_config

OURS = 'FusedVisionTransformer'
STOCK = 'stock MMAction2'
TOLERANCE = 1e-4  # of the largest score


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py export', description=__doc__.split('\n')[0]
    )
    add = parser.add_argument
    add(
        '--size',
        choices=list(SIZES),
        default='small',
        help='of the ViT (default: %(default)s)',
    )
    for flag, default, what in (
        ('--batch-size', 1, 'clips at a time'),
        ('--num-frames', 16, 'frames of a clip'),
        ('--img-size', 224, 'side of a frame, pixels'),
        ('--rounds', 9, 'batches that each classifies'),
        ('--threads', 1, 'threads'),
    ):
        add(
            flag,
            type=int_from(1),
            default=default,
            help=f'{what} (default: %(default)s)',
        )
    add('--no-compile', action='store_true', help='without torch.compile')
    add_file_arguments(parser)
    return parser.parse_args(argv)


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line says, on the CPU.

    Args:
        args: What :func:`parse_args` returns.

    Returns:
        All figures, as in the JSON file, and ``'markdown'``.

    Raises:
        UsageError: For what cannot be done, or scores that differ.
    """
    refuse_old_files([args.out, args.json], args.overwrite)
    init_default_scope('mmaction')
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    setup = Setup(
        SIZES[args.size], args.batch_size, args.num_frames, args.img_size
    )
    model = MODELS.build(recogniser_config('FusedVisionTransformer', setup))
    for parameter in model.parameters():  # biases and norms, too
        nn.init.normal_(parameter, std=0.05)
    with tempfile.TemporaryDirectory() as folder:
        runs = make_runs(model, setup, Path(folder), not args.no_compile)
        differences = compare(runs, runs[OURS], draw(setup, 0))
        seconds = time_in_turn(runs, setup, args.rounds)
    return publish(
        args,
        origin(args, torch.device('cpu')),
        [
            f'classification, ViT-{args.size[0].upper()}, batches of '
            f'{args.batch_size} clips of {args.num_frames} frames of '
            f'{args.img_size}x{args.img_size}; {args.rounds} rounds, medians',
            to_markdown(seconds, differences),
        ],
        seconds=seconds,
        differences=differences,
    )


def make_runs(
    model: nn.Module, setup: Setup, folder: Path, compiles: bool
) -> dict[str, Run]:
    """The same classifier in all its forms."""
    ours = ClipModel(model, 'logits')
    stock = MODELS.build(recogniser_config('VisionTransformer', setup))
    stock.load_state_dict(model.state_dict())
    runs: dict[str, Run] = {OURS: ours, STOCK: ClipModel(stock, 'logits')}
    if compiles:
        runs['torch.compile'] = torch.compile(ours, fullgraph=True)
    for suffix, name in (('onnx', 'onnxruntime'), ('pt2', 'torch.export')):
        say(f'exporting to .{suffix}')
        path = folder / f'model.{suffix}'
        export_model(model, path, 'logits', check=False)
        runs[name] = (
            open_onnx(path, torch.get_num_threads())
            if suffix == 'onnx'
            else open_program(path)
        )
    return runs


def draw(setup: Setup, seed: int) -> Tensor:
    """Noise (B, 3, T, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    size = (setup.img_size, setup.img_size)
    shape = (setup.batch_size, 3, setup.num_frames, *size)
    return torch.randn(shape, generator=generator)


@torch.no_grad()
def compare(
    runs: dict[str, Run], reference: Run, clips: Tensor
) -> dict[str, float]:
    """The largest difference of each, over the largest score.

    Raises:
        UsageError: If one is too large.
    """
    expected = reference(clips)
    differences = {}
    for name, run in runs.items():
        say(f'warming up {name}')
        error = (run(clips) - expected).abs().max() / expected.abs().max()
        differences[name] = error.item()
        if not error < TOLERANCE:
            raise UsageError(
                f'The scores of {name} differ by {error:.1e} of the largest.'
            )
    return differences


@torch.no_grad()
def time_in_turn(
    runs: dict[str, Run],
    setup: Setup,
    num_rounds: int,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each in each round, all on the same clips."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number, order in rounds([*runs], num_rounds):
        clips = draw(setup, number)
        for name in order:
            start = clock()
            runs[name](clips)
            seconds[name].append(clock() - start)
    return seconds


def to_markdown(
    seconds: dict[str, list[float]], differences: dict[str, float]
) -> str:
    """Ratios are medians of those of each round."""
    lines = [
        f'|  | seconds | time over that of {OURS} | difference of scores |',
        '|---|---:|---:|---:|',
    ]
    for name, times in seconds.items():
        pairs = zip(times, seconds[OURS], strict=True)
        ratio = statistics.median(own / ours for own, ours in pairs)
        lines.append(
            f'| {name} | {statistics.median(times):.3f} | {ratio:.2f} | '
            f'{differences[name]:.1e} |'
        )
    return '\n'.join(lines)
