# Copyright (c) MotionMAE contributors. All rights reserved.
"""Devices, points in time, rounds, flags, and where figures come from."""

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import av
import torch

from mmmotionmae.apis import UsageError
from mmmotionmae.utils.files import complete_file
from mmmotionmae.utils.time_left import time_left

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    'mmmotionmae',
    'mmaction2',
    'mmcv-lite',
    'mmengine',
    'av',
    'decord',
    'opencv-python',
    'numpy',
    'torch',
)


def find_device(name: str | None) -> torch.device:
    """The device of a name; CUDA tensors go there from now on.

    Args:
        name: ``'cpu'``, ``'cuda'`` or ``'cuda:N'``. None: CUDA if there is
            one, else the CPU.

    Raises:
        UsageError: If there is no such device.
    """
    if name is None:
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device('meta')
    if device.type not in ('cpu', 'cuda'):
        raise UsageError(f'--device is cpu, cuda or cuda:N, not {name!r}.')
    if device.type == 'cuda':
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise UsageError(
                f'There is no device {name!r}: PyTorch sees {found} GPUs.'
            )
        torch.cuda.set_device(device)
    return device


def this_run() -> dict[str, str]:
    """Command and date."""
    now = datetime.datetime.now().astimezone()
    return dict(
        command=shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]]),
        date=now.isoformat(timespec='seconds'),
    )


def origin(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Where figures come from: command, date, commit, machine, settings."""
    name = ''
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    return dict(
        **this_run(),
        commit=_commit(),
        device=name or 'cpu',
        cpus=usable_cpus(),
        threads=torch.get_num_threads(),
        **about_machine(),
        settings=vars(args),
    )


def usable_cpus() -> int:
    """Cores that this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _commit() -> str | None:
    """The commit of the code, with a ``+`` if files differ from it."""
    git = ['git', '-C', str(ROOT)]
    try:
        commit, changes = (
            subprocess.run(
                [*git, *words], check=True, capture_output=True, text=True
            ).stdout.strip()
            for words in (
                ['rev-parse', '--short=12', 'HEAD'],
                ['status', '--porcelain', '--untracked-files=no'],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git, or not a checkout
    return f'{commit}+' if changes else commit


def origin_markdown(facts: Mapping[str, Any]) -> str:
    """One paragraph of what :func:`origin` returns."""
    device = facts['device']
    processor = f'{facts["cpu"]}, {facts["cpus"]} cores'
    if device == 'cpu':
        where = f'on {processor}, {facts["threads"]} threads'
    else:
        where = f'on {device} ({processor})'
    return (
        f'`{facts["command"]}`, {facts["date"]}, commit '
        f'{facts["commit"] or "unknown"}, {where}, PyTorch '
        f'{facts["versions"]["torch"]}.'
    )


def about_machine() -> dict[str, Any]:
    """Processor and versions."""
    return dict(
        cpu=_cpu_name(),
        platform=platform.platform(),
        python=platform.python_version(),
        versions={name: _version(name) for name in PACKAGES},
        ffmpeg={k: '.'.join(map(str, v)) for k, v in _libraries().items()},
    )


def _libraries() -> dict[str, tuple[int, ...]]:
    return av.library_versions


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        text = Path('/proc/cpuinfo').read_text()
    except OSError:
        return platform.processor()
    names = [
        line.partition(':')[2].strip()
        for line in text.splitlines()
        if line.startswith('model name')
    ]
    return names[0] if names else platform.processor()


Clock = Callable[[], float]  # seconds; the one of the host


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was told to."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def now(device: torch.device, clock: Clock = time.perf_counter) -> Any:
    """When the device has done all that it was told to so far.

    Args:
        device: Where it happens.
        clock: Tells the time of the host; a GPU has its own.
    """
    if device.type != 'cuda':
        return clock()
    # Waits for nothing, so the GPU does not idle.
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def milliseconds(start: Any, end: Any) -> float:
    """From one point to another; those of a GPU must have been reached."""
    if isinstance(start, float):
        return 1e3 * (end - start)
    return start.elapsed_time(end)


T = TypeVar('T')


def rounds(
    entrants: Sequence[T],
    number: int,
    warm_up: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[int, list[T]]]:
    """Rounds in which everything is measured once, in turn.

    Args:
        entrants: What is measured.
        number: How many rounds count.
        warm_up: How many come before.
        clock: For the time left, in seconds.

    Yields:
        The number of the round, below 0 to warm up, and the order: who is
        first in one is last in the next.
    """
    begin = 0.0
    for now in range(-warm_up, number):
        if now <= 0:
            begin = clock()
        if now < 0:
            say(f'warming up, {-now} to go')
        else:
            left = time_left(now, number, clock() - begin)
            say(f'round {now + 1} of {number}{left and f", {left}"}')
        turn = now % len(entrants)
        yield now, [*entrants[turn:], *entrants[:turn]]


def say(text: str) -> None:
    """Tell how far it is, without getting into the tables."""
    print(text, file=sys.stderr, flush=True)


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument(
        '--device', help='cpu, cuda or cuda:N (default: cuda if there is one)'
    )


def add_file_arguments(
    parser: argparse.ArgumentParser, *other_names: str
) -> None:
    """Add the flags of the files.

    Args:
        parser: Where.
        *other_names: More names of ``--out``.
    """
    add = parser.add_argument
    add(
        '--out',
        *other_names,
        metavar='FILE.md',
        help='write the tables there, too',
    )
    add('--json', metavar='FILE.json', help='write all figures there')
    add('--overwrite', action='store_true', help='replace files of an old run')


def write_files(
    args: argparse.Namespace, result: Mapping[str, Any], text: str
) -> None:
    """Print the text, and write what ``--out`` and ``--json`` ask for."""
    print(text)
    if args.out:
        with complete_file(Path(args.out)) as path:
            path.write_text(f'{text}\n', encoding='utf-8')
    if args.json:
        with complete_file(Path(args.json)) as path:
            path.write_text(json.dumps(result, indent=1), encoding='utf-8')


def publish(
    args: argparse.Namespace,
    facts: Mapping[str, Any],
    texts: Sequence[str],
    **figures: Any,
) -> dict[str, Any]:
    """Print and write figures with their origin.

    Args:
        args: The command line.
        facts: What :func:`origin` returns.
        texts: Tables and notes, in Markdown.
        **figures: For the JSON file.

    Returns:
        What is in the JSON file, and ``'markdown'``.
    """
    text = '\n\n'.join([*texts, origin_markdown(facts)])
    result = dict(facts, **figures)
    write_files(args, result, text)
    return dict(result, markdown=text)
