# Copyright (c) MotionMAE contributors. All rights reserved.
"""Run the cells of a study that are not done, on every core."""

import fcntl
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    wait,
)
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from mmmotionmae.cli.splits import last_lines
from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.output import output_to
from mmmotionmae.utils.processes import end_with_parent
from mmmotionmae.utils.time_left import in_words

from .cells import Cell, Record, read_record, write_record

# A forked process would inherit the threads of this one.
CONTEXT = multiprocessing.get_context('spawn')


def run_cells(
    cells: Sequence[Cell],
    root: Path,
    num_processes: int,
    devices: Sequence[str] = (),
    say: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Record]:
    """Run cells, each once, in processes of one thread.

    Cells that are done are left as they are; trainings that were interrupted
    go on. What a cell prints goes to ``log.txt`` in its folder.

    Args:
        cells: Each with its parent, if it has one, somewhere among them or
            done.
        root: Folder of the study.
        num_processes: How many at a time.
        devices: GPUs, as ``CUDA_VISIBLE_DEVICES`` names them, given out in
            turn. None: the CPU.
        say: What shows a line of progress.
        clock: For the progress, in seconds.

    Returns:
        The records of all cells, by name.

    Raises:
        UsageError: If one fails; the message shows the end of its log. Others
            that run are given up, and go on with the next call.
    """
    records = {}
    waiting = []
    for cell in cells:
        record = read_record(cell, root)
        if record is None:
            waiting.append(cell)
        else:
            records[cell.name] = record
    progress = _Progress(len(cells), waiting, say, clock)
    turns = CONTEXT.SimpleQueue()
    for number in range(num_processes if devices else 0):
        turns.put(devices[number % len(devices)])
    pool = ProcessPoolExecutor(
        num_processes, CONTEXT, _set_up, (turns if devices else None,)
    )
    running: dict[Future[Record], Cell] = {}
    try:
        while waiting or running:
            for cell in list(waiting):
                if len(running) == num_processes:
                    break
                if cell.parent is None or read_record(cell.parent, root):
                    waiting.remove(cell)
                    running[pool.submit(_run, cell, root)] = cell
            if not running:
                raise UsageError(
                    f'{waiting[0].name} waits for a cell that is not among '
                    'those to run.'
                )
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                records[cell.name] = _result(future, cell, root)
                progress.done(cell, records[cell.name])
    finally:
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(cancel_futures=True)
    return records


def _set_up(turns: 'SimpleQueue[str] | None') -> None:
    end_with_parent(signal.SIG_DFL)
    if turns is not None:  # before PyTorch is imported
        os.environ['CUDA_VISIBLE_DEVICES'] = turns.get()
    tools = str(Path(__file__).parents[1])
    if tools not in sys.path:
        sys.path.insert(0, tools)


def _run(cell: Cell, root: Path) -> Record:
    # Not before: the steps bring PyTorch and all of MMAction2 along, which
    # the process that waits has no need of.
    from .steps import run_cell

    start = time.perf_counter()
    folder = cell.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError('another process runs it just now') from error
        with output_to(folder / 'log.txt'):
            result = run_cell(cell, root)
    return write_record(cell, root, result, time.perf_counter() - start)


def _result(future: 'Future[Record]', cell: Cell, root: Path) -> Record:
    try:
        return future.result()
    except Exception as error:
        log = cell.folder(root) / 'log.txt'
        end = '\n'.join(last_lines(log)) if log.is_file() else ''
        raise UsageError(
            f'{cell.name} failed: {error}\n{end}\n'
            f'Its whole output is in {log}.'
        ) from error


class _Progress:
    """Cells that are done, and the time that the others may take."""

    def __init__(
        self,
        number: int,
        waiting: Sequence[Cell],
        say: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._number, self._say, self._clock = number, say, clock
        self._left = [cell.kind for cell in waiting]
        self._seconds: dict[str, list[float]] = {}
        self._start = clock()
        self._work = 0.0
        say(f'{number} cells, {number - len(waiting)} of them done already')

    def done(self, cell: Cell, record: Record) -> None:
        self._left.remove(cell.kind)
        self._seconds.setdefault(cell.kind, []).append(record['seconds'])
        self._work += record['seconds']
        spent = self._clock() - self._start
        parallel = max(self._work / spent, 1e-9) if spent else 1.0
        done = self._number - len(self._left)
        text = f'[{done}/{self._number}] {cell.name}: {_summary(record)}'
        unknown = {kind for kind in self._left if kind not in self._seconds}
        left = sum(
            sum(self._seconds[kind]) / len(self._seconds[kind])
            for kind in self._left
            if kind not in unknown
        )
        least = 'at least ' if unknown else ''
        if self._left:
            text += f', {least}{in_words(left / parallel)} left'
        self._say(text)


def _summary(record: Record) -> str:
    result = record['result']
    if 'top1' in result:
        return f'top-1 {100 * result["top1"]:.1f}'
    if 'metrics' in result:
        return f'J&F {100 * result["metrics"]["J&F-Mean"]:.1f}'
    values = (
        result['curve'][-1]
        if 'curve' in result
        else {
            f'{key} ({mask})': value
            for mask, shares in result.items()
            for key, value in shares.items()
        }
    )
    return ', '.join(
        f'{key} {value:.3f}'
        for key, value in values.items()
        if key.startswith('r2_')
    )
