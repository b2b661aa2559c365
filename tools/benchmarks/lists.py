# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure how long lists are opened and drawn from, and the memory of it.

Of each length: the first opening, which makes the index; an opening in another
process, which finds it; and a shuffled epoch. Each in a process of its own,
whose memory is counted from when it begins. Seconds are those that it
computes, since others may do so at the same time; the JSON file has all, too.
"""

import argparse
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from mmaction.datasets import VideoDataset
from mmengine.dataset import DefaultSampler

from mmmotionmae.cli.arguments import int_from, refuse_old_files
from mmmotionmae.datasets import RobustVideoDataset

from .common import add_file_arguments, origin, publish, say
from .table import Column, Table, megabytes


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py lists', description=__doc__.split('\n')[0]
    )
    parser.add_argument(
        '--lines',
        nargs='+',
        type=int_from(1),
        default=[10**4, 10**5, 10**6],
        metavar='N',
        help='lengths of the lists (default: 10000 100000 1000000)',
    )
    parser.add_argument(
        '--stock-up-to',
        type=int_from(0),
        default=10**6,
        metavar='N',
        help="longest list that MMAction2's data set opens, too "
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--folder', help='where the lists go (default: a temporary folder)'
    )
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
    rows = []
    for number in args.lines:
        say(f'{number} lines')
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            rows.append(measure(Path(folder), number, args.stock_up_to))
    table = Table(
        rows,
        [
            Column('lines', 'lines', ','),
            Column('list, MB', 'list_bytes', megabytes),
            Column('index, MB', 'index_bytes', megabytes),
            Column('first opening, s', ('build', 'seconds'), '.2f'),
            Column('its peak, MB', ('build', 'peak'), megabytes),
            Column('opening, s', ('open', 'seconds'), '.3f'),
            Column('lasting, MB', ('open', 'lasting'), megabytes),
            Column('first sample, s', ('first', 'seconds'), '.4f'),
            Column('epoch, s', ('epoch', 'seconds'), '.2f'),
            Column('its peak, MB', ('epoch', 'peak'), megabytes),
            Column('stock, s', ('stock', 'seconds'), '.2f', True),
            Column('its peak, MB', ('stock', 'peak'), megabytes, True),
            Column('lasting, MB', ('stock', 'lasting'), megabytes, True),
        ],
    )
    return publish(
        args,
        origin(args, torch.device('cpu')),
        [
            'lists of videos with labels; seconds of computing',
            table.markdown(),
        ],
        rows=rows,
    )


def measure(folder: Path, number: int, stock_up_to: int) -> dict[str, Any]:
    """All figures of one length.

    Args:
        folder: Where the list goes.
        number: Of lines.
        stock_up_to: The most lines that MMAction2's data set gets.
    """
    path = folder / 'list.txt'
    with open(path, 'w', encoding='utf-8') as file:
        file.writelines(_lines(number))
    found: dict[str, Any] = dict(lines=number, list_bytes=path.stat().st_size)
    found['build'] = _in_a_process(_open, RobustVideoDataset, str(path))
    found['open'] = _in_a_process(_open, RobustVideoDataset, str(path))
    found['first'] = _in_a_process(_sample, number, 1)
    found['epoch'] = _in_a_process(_sample, number, number)
    if number <= stock_up_to:
        found['stock'] = _in_a_process(_open, VideoDataset, str(path))
    found['index_bytes'] = sum(
        other.stat().st_size for other in folder.glob('.*.index')
    )
    return found


def _lines(number: int) -> Iterator[str]:
    for i in range(number):
        name = f'part_{i // 1000:06d}/video_{i * 7919 % number:09d}.mp4'
        yield f'{name} {i % 400}\n'


def _open(dataset: Callable, path: str) -> Any:
    """Open a list, and look at one of its videos."""
    opened = dataset(ann_file=path, pipeline=[], data_prefix=dict(video='v'))
    opened.get_data_info(len(opened) // 2)
    return opened


def _sample(number: int, count: int) -> Any:
    """Draw so many of the samples of an epoch."""
    indices = iter(DefaultSampler(range(number), seed=0))
    last = next(itertools.islice(indices, count - 1, None))
    return indices, last


def _in_a_process(function: Callable, *args: Any) -> dict[str, float]:
    """Seconds that it computes, and memory that it adds, in bytes."""
    context = multiprocessing.get_context('fork')
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_measured, function, *args).result()


def _measured(function: Callable, *args: Any) -> dict[str, float]:
    Path('/proc/self/clear_refs').write_text('5')  # the peak begins here
    before, start = _memory('VmRSS'), time.perf_counter()
    computing = time.process_time()
    kept = function(*args)
    found = dict(
        seconds=time.process_time() - computing,
        wall_seconds=time.perf_counter() - start,
        lasting=_memory('VmRSS') - before,
        peak=_memory('VmHWM') - before,
    )
    del kept
    return found


def _memory(name: str) -> int:
    """A line of what Linux tells of this process, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{name}:'):
            return int(line.split()[1]) * 1024
    return 0
