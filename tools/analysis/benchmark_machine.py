# Copyright (c) MotionMAE contributors. All rights reserved.
"""Devices, and where figures come from."""

import argparse
import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av
import torch

from mmmotionmae.apis import UsageError

ROOT = Path(__file__).parents[2]
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
