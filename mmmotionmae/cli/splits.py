# Copyright (c) MotionMAE contributors. All rights reserved.
"""Runs of the tools on the official splits of a data set, and results."""

import argparse
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..apis.runner import load_config
from ..utils.errors import UsageError
from ..utils.files import complete_file, write_json
from ..utils.provenance import as_read, find_differences, hash_file
from .arguments import add_common_arguments

FILE = 'result.json'


@dataclass
class SplitResult:
    """State of one split; kept in ``result.json`` of its folder.

    Attributes:
        folder: Where the split's steps write.
        split: Its number.
        settings: What makes the result.
        seconds: Duration of each finished step.
        metrics: Of the test; empty before.
    """

    folder: Path
    split: int
    settings: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(
        cls, folder: Path, split: int, settings: Mapping[str, Any]
    ) -> 'SplitResult':
        """Begin a split, or go on with it.

        Raises:
            UsageError: If the folder holds something else, or the split was
                begun with other settings.
        """
        plain = as_read(settings)
        path = folder / FILE
        if not path.exists():
            if folder.exists() and any(folder.iterdir()):
                raise UsageError(
                    f'{folder} holds something else than a split; choose '
                    'another --work-dir.'
                )
            return cls(folder, split, plain)
        result = cls(folder, **json.loads(path.read_text()))
        changes = find_differences(
            dict(fingerprint=result.settings), dict(fingerprint=plain)
        )
        if changes:
            raise UsageError(
                f'{folder} was made with other settings ({changes}). Go back '
                'to them, or choose another --work-dir.'
            )
        return result

    def save(self) -> None:
        """Write what is done."""
        content = {k: v for k, v in vars(self).items() if k != 'folder'}
        write_json(self.folder / FILE, content)

    def finish(
        self, step: str, seconds: float, metrics: Mapping[str, float]
    ) -> None:
        """Enter a finished step, and the metrics if it is the test."""
        self.seconds[step] = seconds
        self.metrics.update(metrics)
        self.save()


def read_config(path: str, options: Sequence[str]) -> dict[str, Any]:
    """Read a config as a plain dict, without its work dir.

    Args:
        path: The config.
        options: Values of ``--cfg-options``.

    Raises:
        UsageError: If it cannot be read.
    """
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    flags = ['--cfg-options', *options] if options else []
    cfg = load_config(path, parser.parse_args(flags).cfg_options)
    plain: dict[str, Any] = cfg.to_dict()
    del plain['work_dir']
    return plain


def hash_checkpoint(path: str | None) -> str | None:
    """SHA-256 of a checkpoint; for one in the net, its address.

    Raises:
        UsageError: If there is no such file.
    """
    if path is None or '://' in path:
        return path
    digest = hash_file(path)
    if digest is None:
        raise UsageError(f'There is no checkpoint {path!r}.')
    return digest


def check_splits_differ(results: Sequence[SplitResult]) -> None:
    """Make sure that the configs depend on the split.

    Raises:
        UsageError: If they do not.
    """
    advice = "write split = '{{$SPLIT:1}}' into the names of its lists"
    for name, more in (
        ('finetune', ''),
        ('pretrain', ', or pre-train once and give the --checkpoint'),
    ):
        configs = [result.settings.get(name) for result in results]
        if configs[0] and configs[0] in configs[1:]:
            raise UsageError(
                f'The config of {name} does not depend on the environment '
                f'variable SPLIT, so its splits would be all the same: '
                f'{advice}{more}.'
            )


def write_report(folder: Path, results: Mapping[int, SplitResult]) -> str:
    """Write ``splits.json`` and ``splits.md``.

    Args:
        folder: Where to.
        results: With metrics, by split.

    Returns:
        The table of ``splits.md``: top-1 and top-5 accuracy of each split in
        per cent, with the interval of top-1 if the metrics have it, and their
        mean.

    Raises:
        UsageError: If the tests give no top-1 accuracy.
    """
    metrics = {split: result.metrics for split, result in results.items()}
    first = next(iter(metrics.values()))
    if 'acc/top1' not in first:
        raise UsageError(
            'The tests give no acc/top1: the test_evaluator must be '
            'AccMetric, or one derived from it.'
        )
    means = {
        name: float(np.mean([m[name] for m in metrics.values()]))
        for name in first
        if name.startswith('acc/') and not name.endswith(('_low', '_high'))
    }
    rows: dict[str, Mapping[str, float]] = {
        str(split): values for split, values in metrics.items()
    }
    rows['mean'] = means
    columns = [n for n in ('acc/top1', 'acc/top5') if n in first]
    intervals = 'acc/top1_low' in first
    head = [f'{name[4:].replace("top", "top-")} (%)' for name in columns]
    head[1:1] = ['95 % interval'] if intervals else []
    lines = [['split', *head], ['---', *['---:'] * len(head)]]
    for name, values in rows.items():
        cells = [f'{100 * values[column]:.2f}' for column in columns]
        if intervals and name == 'mean':
            cells.insert(1, '')
        elif intervals:
            ends = values['acc/top1_low'], values['acc/top1_high']
            cells.insert(1, ' to '.join(f'{100 * end:.2f}' for end in ends))
        lines.append([name, *cells])
    table = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    with complete_file(folder / 'splits.md') as temporary:
        temporary.write_text(f'{table}\n')
    write_json(folder / 'splits.json', dict(splits=metrics, mean=means))
    return table


def call(command: Sequence[str], log: Path) -> int:
    """Run a command in a process of its own.

    It ends with this process: also after Ctrl-C.

    Args:
        command: Program and arguments.
        log: The command and all that it prints are added to this file.

    Returns:
        Its exit code.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'a', encoding='utf-8') as file:
        print('$', shlex.join(command), file=file, flush=True)
        process = None
        try:
            with _late_signals():  # not between its start and the assignment
                process = subprocess.Popen(
                    command, stdout=file, stderr=subprocess.STDOUT
                )
            return process.wait()
        finally:
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait()


@contextmanager
def _late_signals() -> Iterator[None]:
    """Handle Ctrl-C and SIGTERM at the end of this, not in the middle."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for signalled in caught:
            signal.raise_signal(signalled)


def last_lines(log: Path, number: int = 15) -> list[str]:
    """The end of a log file, without empty lines; nothing if there is none."""
    if not log.exists():
        return []
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    return [line for line in lines if line.strip()][-number:]


def reason_of_failure(log: Path) -> str:
    """The line that tells why a tool failed: its error, or its last line."""
    lines = last_lines(log, 100) or ['it printed nothing']
    errors = [line for line in lines if line.startswith('error: ')]
    return (errors or lines)[-1].removeprefix('error: ')


def last_checkpoint(work_dir: Path) -> Path:
    """The last checkpoint of a training, relative to the current folder.

    Raises:
        FileNotFoundError: If it has written none.
    """
    name = work_dir / 'last_checkpoint'
    if not name.is_file():
        raise FileNotFoundError(f'{work_dir} has no checkpoint of a training.')
    return Path(os.path.relpath(name.read_text()))


def last_metrics(work_dir: Path) -> dict[str, Any]:
    """Metrics of the last test, as its ``LoggerHook`` has written them.

    Args:
        work_dir: That of the test.

    Returns:
        Metrics by name, such as ``acc/top1``, and the times ``time`` and
        ``data_time`` of a batch, in seconds.

    Raises:
        FileNotFoundError: If there is no finished test.
    """
    # One folder for each run, named after its time; the file is named alike.
    files = [
        folder / f'{folder.name}.json'
        for folder in sorted(work_dir.glob('*/'))
        if (folder / f'{folder.name}.json').is_file()
    ]
    if not files:
        raise FileNotFoundError(f'{work_dir} has no results of a test.')
    metrics: dict[str, Any] = json.loads(files[-1].read_text())
    return metrics
