# Copyright (c) MotionMAE contributors. All rights reserved.
"""Runs of ``tools/train.py`` and ``tools/test.py``, and what they leave."""

import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


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
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


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
    """What the last test has measured, as its ``LoggerHook`` has written it.

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
