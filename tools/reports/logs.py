# Copyright (c) MotionMAE contributors. All rights reserved.
"""Logs of a training as MMEngine's LocalVisBackend and logger write them."""

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, float]

_POSITION = re.compile(
    r'(?:Epoch\(train\)\s+\[(\d+)\]|Iter\(train\)\s+)\[\s*(\d+)/(\d+)\]'
)
_LEFT = re.compile(r'eta: ((?:\d+ days?, )?[\d:]+)')
_ENVIRONMENT = re.compile(r'System environment:\n(.*?)\n-{20,}', re.S)
_PROCESSES = re.compile(r'GPU number: (\d+)')


@dataclass
class Log:
    """What the trainings in a work dir logged, joined to one.

    Attributes:
        train: The logged steps in order, each once, with ``step``.
        val: Validations, with ``step``: an epoch or an iteration.
        by_epoch: Whether it is an epoch.
        starts: First logged step of each training after the first, which
            goes on from a checkpoint or begins anew.
        folder: Of the last training; None if none has logged anything.
    """

    train: list[Row] = field(default_factory=list)
    val: list[Row] = field(default_factory=list)
    by_epoch: bool = False
    starts: list[float] = field(default_factory=list)
    folder: Path | None = None

    def add(self, folder: Path, rows: Iterable[Row]) -> None:
        """Add the rows of a training that began later than those here.

        What it has repeated since its checkpoint, and all that came after,
        is dropped of the earlier ones.
        """
        train: dict[float, Row] = {}
        val: dict[float, Row] = {}
        for row in rows:
            kind = train if 'iter' in row or 'lr' in row else val
            kind[row['step']] = row
        if not train and not val:
            return
        self.folder = folder
        if train:
            begin = next(iter(train.values()))
            self.by_epoch = 'epoch' in begin
            if self.train:
                self.starts = [s for s in self.starts if s < begin['step']]
                self.starts.append(begin['step'])
            self.train = _before(self.train, begin['step'])
            place = begin['epoch'] if self.by_epoch else begin['step']
            self.val = _before(self.val, place)
        if val:
            self.val = _before(self.val, min(val))
        self.train += [train[step] for step in sorted(train)]
        self.val += [val[step] for step in sorted(val)]


def _before(rows: list[Row], step: float) -> list[Row]:
    return [row for row in rows if row['step'] < step]


def read_log(work_dir: Path) -> Log:
    """Read what the trainings in a work dir logged, the earliest first.

    Args:
        work_dir: With a folder for each start of the training, named after
            its time; or one of these.

    Returns:
        The log; empty where nothing has been logged.
    """
    log = Log()
    for pattern in ('vis_data', '*/vis_data'):
        for path in sorted(work_dir.glob(f'{pattern}/scalars.json')):
            log.add(path.parents[1], read_rows(path))
    return log


def read_rows(path: Path) -> list[Row]:
    """The rows of a ``scalars.json``; what is half written is passed over.

    Returns:
        Dicts of numbers, NaN and infinity among them, each with ``step``.
    """
    rows = []
    for line in path.read_text('utf-8', 'replace').splitlines():
        try:
            # A float holds any number, be it as infinity.
            found = json.loads(line, parse_int=float)
        except ValueError:
            continue
        if not isinstance(found, dict):
            continue
        row = {k: v for k, v in found.items() if isinstance(v, float)}
        if 'step' in row:
            rows.append(row)
    return rows


@dataclass(frozen=True)
class Setting:
    """What a training ran with, and where it is.

    Attributes:
        environment: As the log has it; may be empty.
        config: Text of its config; may be empty.
        batch_size: Samples of a step, of all processes; None: not known.
        position: Share that is done, 0 to 1; None: not known.
        left: Time left, as the log has it; may be empty.
    """

    environment: str = ''
    config: str = ''
    batch_size: int | None = None
    position: float | None = None
    left: str = ''

    @property
    def is_done(self) -> bool:
        """Whether the last step was taken."""
        return self.position is not None and self.position >= 1


def read_setting(folder: Path) -> Setting:
    """Read the environment, the config and the position of a training.

    Nothing of the config is run.

    Args:
        folder: Of one training, named after its time.
    """
    texts = [
        path.read_text('utf-8', 'replace')
        for path in sorted(folder.glob('*.log'))
    ]
    text = '\n'.join(texts)
    path = folder / 'vis_data' / 'config.py'
    config = path.read_text('utf-8', 'replace') if path.is_file() else ''
    values = plain_values(config)
    environment = _ENVIRONMENT.search(text)
    size = _entry(values, 'train_dataloader', 'batch_size')
    processes = _PROCESSES.search(text)
    if isinstance(size, int) and processes:
        size *= int(processes[1])
    left = _LEFT.findall(text)
    return Setting(
        environment[1] if environment else '',
        config,
        size if isinstance(size, int) else None,
        _position(text, values),
        left[-1] if left else '',
    )


def _position(text: str, values: Mapping[str, Any]) -> float | None:
    epochs, iterations = (
        _entry(values, 'train_cfg', key) for key in ('max_epochs', 'max_iters')
    )
    # MMEngine's logger leaves out the last steps of an epoch.
    for number, unit in ((epochs, 'epochs'), (iterations, 'iterations')):
        if f'Saving checkpoint at {number} {unit}' in text:
            return 1.0
    places = _POSITION.findall(text)
    if not places:
        return None
    epoch, step, number = places[-1]
    if not int(number):
        return None
    share = int(step) / int(number)
    if not epoch:
        return share
    if not isinstance(epochs, int) or not epochs:
        return None
    return (int(epoch) - 1 + share) / epochs


def _entry(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def plain_values(config: str) -> dict[str, Any]:
    """The top values of a dumped config, which is parsed and never run.

    Args:
        config: Text in Python; as MMEngine dumps it there are literals and
            ``dict(...)`` in it.

    Returns:
        By name; what is neither is None. Empty, if it cannot be parsed.
    """
    try:
        body = ast.parse(config).body
    except (SyntaxError, ValueError):
        return {}
    return {
        node.targets[0].id: _value(node.value)
        for node in body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
    }


def _value(node: ast.expr) -> Any:
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == 'dict'
    ):
        return {k.arg: _value(k.value) for k in node.keywords if k.arg}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):  # of no literal; of no possible one
        return None
