#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Run a study of pre-training on real clips: does motion help?

Each cell of the plan is one training or test, known by all that its result
depends on. Those that are done are not run again; trainings that were
interrupted go on. One process a core, of one thread each; where there are
GPUs, one for each of these, and the larger plan.
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmmotionmae.cli.arguments import ConfigOptions, int_from

# One thread a process, before PyTorch is imported.
os.environ.setdefault('OMP_NUM_THREADS', '1')

RECORDS = 'records.jsonl'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'plan',
        nargs='?',
        help='which cells there are (default: tools/studies/plans/small.py, '
        'or large.py where there is a GPU)',
    )
    parser.add_argument(
        '--data-root',
        type=Path,
        default='data/study',
        help='folder to which the lists are relative (default: %(default)s)',
    )
    parser.add_argument(
        '--out-dir',
        type=Path,
        default='work_dirs/study',
        help='where cells are kept (default: %(default)s)',
    )
    parser.add_argument(
        '--only',
        default='',
        metavar='REGEX',
        help='cells whose name it is found in, and those they start from',
    )
    parser.add_argument(
        '--jobs',
        type=int_from(1),
        help='cells at a time (default: one a core, or one a GPU)',
    )
    parser.add_argument(
        '--list', action='store_true', help='name the cells, and run none'
    )
    parser.add_argument(
        '--report',
        nargs='?',
        type=Path,
        const='',
        metavar='DIR',
        help='run nothing; write tables and plots of what is done into this '
        'folder, beside its records (default: docs/study, of all plans but '
        'the large one; of a plan or lists that are named, the folder '
        '"report" of --out-dir)',
    )
    parser.add_argument(
        '--rerun',
        metavar='CELL',
        help='run a cell that is done once more, and compare',
    )
    own = parser.add_argument_group(
        'own videos', 'lists «path label», relative to --data-root'
    )
    own.add_argument('--train-list', help='labelled, for fine-tuning')
    own.add_argument('--test-list', help='labelled, for testing')
    own.add_argument(
        '--pretrain-list', help='for pre-training (default: --train-list)'
    )
    own.add_argument(
        '--cluster',
        default='(.*)',
        metavar='REGEX',
        help='videos whose path has the same groups depend on each other '
        '(default: none do)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        default={},
        help='changes of the plan, such as pretrain_steps=100',
    )
    args = parser.parse_args(argv)
    if bool(args.train_list) != bool(args.test_list):
        parser.error('--train-list and --test-list go together')
    return args


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

import torch
from mmengine.config import Config
from studies import report as reports
from studies.cells import (
    Cell,
    Record,
    read_record,
    read_records,
    write_records,
)
from studies.plan import Plan
from studies.plots import draw_plots
from studies.running import run_cells

from mmmotionmae.apis.runner import load_config
from mmmotionmae.cli.running import run_tool
from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.provenance import find_differences


def study(args: argparse.Namespace) -> None:
    """Do what the command line says."""
    gpus = _gpus()
    size = 'large' if gpus else 'small'
    if args.report is not None and not args.train_list:
        size = 'factors'  # which has all cells of the small one
    plan = args.plan or f'tools/studies/plans/{size}.py'
    cfg = load_config(plan, args.cfg_options)
    if args.train_list:
        _take_own(cfg, args)
    data_root, root = args.data_root.resolve(), args.out_dir.resolve()
    if args.report is not None:
        has_lists = args.train_list or data_root.is_dir()
        cells = Plan(cfg, data_root, root).cells() if has_lists else []
        is_named = args.plan or args.train_list
        folder = root / 'report' if is_named else Path('docs/study')
        if args.report != Path():
            folder = args.report
        _report(cfg, cells, root, folder)
        return
    cells = _chosen(Plan(cfg, data_root, root).cells(), args.only)
    if args.list:
        for cell in cells:
            done = 'done' if read_record(cell, root) else '-'
            print(f'{cell.fingerprint()}  {done:5} {cell.name}')
    elif args.rerun:
        _rerun(cells, args.rerun, root, gpus[:1])
    else:
        jobs = args.jobs or len(gpus or os.sched_getaffinity(0))
        run_cells(cells, root, jobs, gpus, _say)


def _gpus() -> list[str]:
    """Those that may be used, as CUDA_VISIBLE_DEVICES names them."""
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = visible.split(',') if visible else map(str, range(number))
    return [*names][:number]


def _take_own(cfg: Config, args: argparse.Namespace) -> None:
    """Put a user's lists in place of those of the plan."""
    cfg.domains = dict(
        own=dict(
            lists=[args.pretrain_list or args.train_list],
            held_out=[args.test_list],
        )
    )
    cfg.tasks = dict(
        own=dict(
            train=args.train_list, test=args.test_list, cluster=args.cluster
        )
    )
    cfg.segmentation = dict()


def _chosen(cells: Sequence[Cell], expression: str) -> list[Cell]:
    """Cells whose name fits, with those that they start from."""
    try:
        chosen = [c for c in cells if re.search(expression, c.name)]
    except re.error as error:
        raise UsageError(
            f'--only {expression!r} is no regular expression: {error}.'
        ) from error
    if not chosen:
        raise UsageError(
            f'No cell has {expression!r} in its name; --list shows them.'
        )
    names = {c.name for c in chosen}
    names |= {c.parent.name for c in chosen if c.parent is not None}
    return [c for c in cells if c.name in names]


def _report(
    cfg: Config, cells: Sequence[Cell], root: Path, folder: Path
) -> None:
    """Write the report from the records that are in its folder, and newer.

    Those of cells that the plan has otherwise are left out.
    """
    records = read_records(folder / RECORDS)
    for cell in cells:
        record = read_record(cell, root) or records.get(cell.name)
        if record is None:
            continue
        if record.get('fingerprint') == cell.fingerprint():
            records[cell.name] = record
        else:
            del records[cell.name]
            _say(f'{cell.name} is another cell now: its record is left out.')
    if not records:
        raise UsageError(f'There are no records in {root} or {folder}.')
    write_records(folder / RECORDS, records.values())
    report = reports.Report(cfg, records)
    page = folder / 'README.md'
    if page.is_file():
        reports.update_page(page, report.tables())
    else:
        reports.write_page(page, report.tables())
    draw_plots(report, folder)
    print(f'{len(records)} records; report in {page}')


def _rerun(
    cells: Sequence[Cell], name: str, root: Path, gpus: Sequence[str]
) -> None:
    """Run a cell anew in a folder of its own, and compare the results."""
    cell = next((c for c in cells if c.name == name), None)
    record = None if cell is None else read_record(cell, root)
    if cell is None or record is None:
        raise UsageError(f'{name!r} is no cell that is done; see --list.')
    again = root / 'rerun'
    _remove(cell.folder(again))
    if cell.parent is not None:
        link = cell.parent.folder(again)
        link.parent.mkdir(parents=True, exist_ok=True)
        _remove(link)
        link.symlink_to(cell.parent.folder(root))
    new = run_cells([cell], again, 1, gpus, _say)[name]
    differences = _compare(record, new)
    if differences:
        raise UsageError(f'{name} gives another result: {differences}')
    print(f'{name} gives the same result once more.')


def _remove(folder: Path) -> None:
    """Remove what an earlier call has run, or linked to."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _compare(first: Record, second: Record) -> str:
    cards: list[dict[str, Any]] = [
        dict(fingerprint=dict(result=record['result']))
        for record in (first, second)
    ]
    return find_differences(*cards)


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: study(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
