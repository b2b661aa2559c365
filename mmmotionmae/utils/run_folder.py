# Copyright (c) MotionMAE contributors. All rights reserved.
"""The folder of a run: its last checkpoint, left-over files."""

import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .errors import CheckpointError
from .files import complete_file, remove
from .sharded_folders import (
    REST,
    is_half_written,
    is_sharded,
    problem_of_folder,
)

LAST = 'last_checkpoint'
_LEFT_OVER = re.compile(r'\.(?:(?P<pid>\d+)\.)?tmp$')


class Choice(NamedTuple):
    """The checkpoint that a run goes on from.

    Attributes:
        path: The checkpoint; None if the folder holds none at all.
        passed_over: Newer ones that are of no use, each with the reason.
    """

    path: str | None
    passed_over: list[str]


def note_last_checkpoint(work_dir: Path, checkpoint: str) -> None:
    """Write ``last_checkpoint`` so that it stays true if the folder moves.

    Args:
        work_dir: Of the run.
        checkpoint: File, folder or address. Of what is in the work dir the
            name alone is written.
    """
    path = Path(checkpoint)
    inside = '://' not in checkpoint and (
        path.absolute().parent == work_dir.absolute()
    )
    with complete_file(work_dir / LAST) as temporary:
        temporary.write_text(path.name if inside else checkpoint)


def when_saved(runner: Any, action: Callable[[], object]) -> None:
    """Do something once the last checkpoint is complete.

    Args:
        runner: Whose strategy may still be writing it; else it is complete.
        action: Called at once, or later by another thread.
    """
    later = getattr(getattr(runner, 'strategy', None), 'when_saved', None)
    if later is None:
        action()
    else:
        later(action)


def finish_saving(runner: Any) -> None:
    """Wait until the last checkpoint is complete; all processes call this.

    Raises:
        CheckpointError: If it could not be written.
    """
    finish = getattr(getattr(runner, 'strategy', None), 'finish_saving', None)
    if finish is not None:
        finish()


def last_checkpoint(work_dir: Path) -> str | None:
    """The checkpoint that ``last_checkpoint`` names, in this very folder.

    A path in it, as MMEngine writes it, is that of where the folder was
    once, and may by now belong to another run: the file of that name in the
    work dir comes first, and files of other work dirs never.

    Args:
        work_dir: Of a run.

    Returns:
        A file or folder that exists, or an address (``s3://...``); None if
        there is none.
    """
    try:
        name = (work_dir / LAST).read_text().strip()
    except OSError:
        return None
    if not name or '://' in name:
        return name or None
    path = Path(name)
    inside = work_dir / path.name
    if inside.exists():
        return str(inside)
    elsewhere = path.exists() and not (path.parent / LAST).exists()
    return name if elsewhere else None


def holds_run(work_dir: Path) -> bool:
    """Tell whether a folder holds checkpoints of a training."""
    if last_checkpoint(work_dir) or (work_dir / LAST).exists():
        return True
    return any(_checkpoints_in(work_dir))


def _checkpoints_in(work_dir: Path) -> list[Path]:
    """All but the encoders, which ``ExportBackboneHook`` writes."""
    return [
        path
        for path in work_dir.glob('*.pth')
        if not path.name.startswith('backbone')
    ]


def choose_checkpoint(work_dir: Path) -> Choice:
    """Choose what a run in this folder goes on from.

    The last checkpoint; if that is missing or truncated, the newest that is
    not.

    Args:
        work_dir: Of the run.

    Returns:
        The checkpoint, and what is wrong with newer ones.

    Raises:
        CheckpointError: If there are checkpoints, but none to go on from.
    """
    last = last_checkpoint(work_dir)
    passed_over = []
    if last is not None:
        problem = None if '://' in last else _problem_of(Path(last))
        if problem is None:
            return Choice(last, [])
        passed_over.append(f'{last} {problem}')
    contents = {}
    for path in _checkpoints_in(work_dir):
        if last is None or path.name != Path(last).name:
            contents[path] = _read(path)
    run = _run_of_encoder(work_dir)
    newest_first = sorted(
        contents, key=lambda path: _iteration_of(contents[path]), reverse=True
    )
    for path in newest_first:
        problem = _problem_of(path)
        theirs = _run_of(contents[path])
        if problem is None and None not in (run, theirs) and run != theirs:
            problem = 'is of an earlier run'
        if problem is None:
            return Choice(str(path), passed_over)
        passed_over.append(f'{path} {problem}')
    if passed_over:
        raise CheckpointError(
            f'{work_dir} holds no checkpoint to go on from: '
            f'{"; ".join(passed_over)}. Start anew (--overwrite), or from '
            'the weights of one of them (load_from) in another work dir.'
        )
    return Choice(None, [])


def _problem_of(path: Path) -> str | None:
    """Reason why no run can go on from a checkpoint; None: it can."""
    if path.is_dir():  # DeepSpeed's are folders, too
        return problem_of_folder(path) if is_sharded(path) else None
    with open(path, 'rb') as file:
        start = file.read(4)
    if not start:
        return 'is empty'
    if start != b'PK\x03\x04':  # of old versions of PyTorch
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile):
        return 'is truncated'
    return None if broken is None else f'is damaged ({broken})'


def _read(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; tensors stay in the file."""
    if path.is_dir():
        path = path / REST
    try:
        content = torch.load(
            path, map_location='cpu', weights_only=True, mmap=True
        )
    except Exception:  # whatever is wrong with it is told elsewhere
        return None
    return content if isinstance(content, dict) else None


def _iteration_of(content: dict[str, Any] | None) -> int:
    meta = (content or {}).get('meta')
    return int(meta.get('iter', -1)) if isinstance(meta, dict) else -1


def _run_of(content: dict[str, Any] | None) -> str | None:
    """The run that a checkpoint is of, if ``ExportBackboneHook`` was on."""
    hub = (content or {}).get('message_hub') or {}
    info = (hub.get('runtime_info') or {}).get('export_backbone') or {}
    return info.get('run')


def _run_of_encoder(work_dir: Path) -> str | None:
    """The run whose encoder is in the folder."""
    for path in work_dir.glob('backbone*.json'):
        try:
            return json.loads(path.read_text()).get('run')
        except (OSError, ValueError, AttributeError):
            continue
    return None


def sweep(work_dir: Path) -> list[Path]:
    """Remove what processes that were killed have left half written.

    Args:
        work_dir: Of a run that is about to start. Other processes of this
            machine may be writing into it.

    Returns:
        The files, and folders of checkpoints, that are gone.
    """
    gone = []
    for path in sorted(work_dir.rglob('*.tmp')):
        found = _LEFT_OVER.search(path.name)
        if found is None or not (
            path.is_file()
            or is_half_written(path)
            or path.name.endswith('.pth.tmp')  # a folder of DeepSpeed
        ):
            continue
        if found['pid'] and _is_running(int(found['pid'])):
            continue
        remove(path)
        gone.append(path)
    return gone


def _is_running(pid: int) -> bool:
    if pid == os.getpid():
        return False  # nothing is written yet: it is an earlier process's
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
