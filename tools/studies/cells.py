# Copyright (c) MotionMAE contributors. All rights reserved.
"""Cells of a study: one run each, known by all that its result depends on."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.files import complete_file, write_json
from mmmotionmae.utils.provenance import as_read

Record = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        name: Such as ``pretrain/g1/videomae/seed0``; unique.
        kind: What is done, a key of ``STEPS`` in ``steps.py``.
        cfg: The config that it runs.
        seed: Of the run.
        lists: Texts of the video lists that it reads, by name.
        parent: The cell whose encoder it starts from; None for random
            weights.
        settings: What else the step is told.
    """

    name: str
    kind: str
    cfg: Config
    seed: int
    lists: Mapping[str, str] = field(default_factory=dict)
    parent: 'Cell | None' = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Hash of all that the result depends on, but for the code.

        Folders of this machine are not part of it.
        """
        content = dict(
            kind=self.kind,
            cfg=_essence(self.cfg),
            seed=self.seed,
            lists=dict(self.lists),
            settings=dict(self.settings),
            parent=self.parent and self.parent.fingerprint(),
        )
        text = json.dumps(as_read(content), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def folder(self, root: Path) -> Path:
        """Where it writes."""
        flat = self.name.replace('/', '_')
        return root / 'cells' / f'{flat}-{self.fingerprint()}'


# What a result depends on; hooks, logs and the like can change.
PARTS = (
    'model',
    'train_dataloader',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'test_dataloader',
    'test_evaluator',
    'custom_hooks',
)
FOLDERS = ('data_root', 'data_prefix', 'cache_dir', 'ann_file')


def _essence(cfg: Config) -> dict[str, Any]:
    """What of a config makes results, without folders of this machine."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: plain(item)
                for key, item in value.items()
                if key not in FOLDERS
            }
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    essence = {part: plain(cfg[part]) for part in PARTS if part in cfg}
    # All loops of epochs train alike.
    essence.get('train_cfg', {}).pop('type', None)
    return essence


def read_record(cell: Cell, root: Path) -> Record | None:
    """The result of a cell that is done; None of another."""
    path = cell.folder(root) / 'record.json'
    return json.loads(path.read_text()) if path.is_file() else None


def write_record(
    cell: Cell, root: Path, result: Mapping[str, Any], seconds: float
) -> Record:
    """Keep the result of a cell, which makes it done."""
    record = dict(
        name=cell.name,
        kind=cell.kind,
        seed=cell.seed,
        fingerprint=cell.fingerprint(),
        settings=dict(cell.settings),
        seconds=round(seconds, 1),
        result=result,
    )
    write_json(cell.folder(root) / 'record.json', record)
    return as_read(record)


def read_records(path: Path) -> dict[str, Record]:
    """Records of a file, by name.

    Raises:
        UsageError: If it is not one that :func:`write_records` has written.
    """
    if not path.is_file():
        return {}
    records = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            record = json.loads(line)
            records[record['name']] = record
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f'{path}, line {number} is no record of a cell.'
            ) from error
    return records


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records, one a line, sorted by name."""
    lines = [
        json.dumps(record, sort_keys=True)
        for record in sorted(records, key=lambda record: record['name'])
    ]
    with complete_file(path) as temporary:
        temporary.write_text('\n'.join(lines) + '\n')
