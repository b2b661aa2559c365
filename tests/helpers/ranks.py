# Copyright (c) MotionMAE contributors. All rights reserved.
"""Processes of one group on this machine, forked: nothing is imported anew."""

import gc
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from .processes import HUNG


def run_ranks(
    count: int, function: Callable, *args: Any, expected: int = 0
) -> None:
    """Run a function in so many processes, which form a gloo group.

    Args:
        count: Of the processes.
        function: Called as ``function(*args)`` by each.
        *args: Its arguments.
        expected: The exit code of all. What else ends one is an error, with
            its traceback; the others are killed then.
    """
    with tempfile.TemporaryDirectory() as folder:
        children = {}
        for rank in range(count):
            pid = os.fork()
            if pid == 0:  # pragma: no cover
                _run(Path(folder), rank, count, function, args)
            children[pid] = rank
        problems = []
        while children:
            pid, status = os.wait()
            rank = children.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code != expected:
                problems.append(f'process {rank} has ended with {code}')
                for other in children:
                    os.kill(other, 9)
        texts = [path.read_text() for path in Path(folder).glob('*.error')]
        assert not problems, '\n'.join(problems + texts)


def _run(
    folder: Path, rank: int, count: int, function: Callable, args: Any
) -> None:  # pragma: no cover
    code = 1
    # What is left of groups in the parent must not be collected here.
    gc.freeze()
    try:
        torch.set_num_threads(1)
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count)
        )
        dist.init_process_group(
            'gloo',
            init_method=f'file://{folder}/store',
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=HUNG),
        )
        function(*args)
        if dist.is_initialized():
            dist.barrier()
        code = 0
    except SystemExit as end:
        code = int(str(end.code))
    except BaseException:
        (folder / f'{rank}.error').write_text(traceback.format_exc())
    finally:
        os._exit(code)
