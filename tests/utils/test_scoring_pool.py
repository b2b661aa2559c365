# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import signal
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from mmmotionmae.utils.errors import ScoringError
from mmmotionmae.utils.processes import ScoringPool, default_num_workers

FORK = get_context('fork')


def square(number, seconds=0.0):
    time.sleep(seconds)
    return number**2, os.getpid()


def fail(error):
    raise error


@pytest.mark.parametrize('num_workers', [0, 1, 3])
def test_scores_come_in_order(num_workers):
    torch.rand(300, 300) @ torch.rand(300, 300)  # the parent has threads
    pool = ScoringPool(num_workers)
    for _ in range(2):  # it can be used again
        for number in range(8):
            pool.submit(
                f's{number}', partial(square, number, 0.05 / (number + 1))
            )
        scores = pool.finish()
        assert [score for score, _ in scores] == [n**2 for n in range(8)]
        own = {pid == os.getpid() for _, pid in scores}
        assert own == {num_workers == 0}
    assert pool.finish() == []


@pytest.mark.parametrize('num_workers', [0, 2])
@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (ValueError('too small'), 'dog cannot be scored: too small'),
        (KeyError(3), 'dog cannot be scored: KeyError: 3'),
    ],
)
def test_an_error_names_the_sequence(num_workers, error, message):
    pool = ScoringPool(num_workers)
    with pytest.raises(ScoringError) as caught:
        pool.submit('cat', partial(square, 1))
        pool.submit('dog', partial(fail, error))
        pool.finish()
    assert str(caught.value) == message
    assert pool.finish() == []


def test_an_error_ends_a_long_run_soon():
    pool = ScoringPool(1)
    pool.submit('dog', partial(fail, ValueError('too small')))
    with pytest.raises(ScoringError, match='dog'):
        for _ in range(200):
            time.sleep(0.05)
            pool.submit('cat', partial(square, 1))


def test_a_process_that_dies():
    pool = ScoringPool(1)
    pool.submit('cat', partial(os._exit, 9))
    with pytest.raises(ScoringError, match='num_workers=0'):
        pool.finish()


def _own_pool(folder, seconds):
    """A process, in a group of its own, that waits for two others."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a tool may have its own
    pool = ScoringPool(2)
    for name in 'ab':
        pool.submit(name, partial(_leave_note, Path(folder), seconds))
    pool.finish()


def _leave_note(folder, seconds):
    (folder / str(os.getpid())).touch()
    time.sleep(seconds)


def running(pid):
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2]
    except FileNotFoundError:
        return False
    return state.split()[0] != 'Z'


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it takes too long'
        time.sleep(0.02)


@pytest.mark.parametrize('how', ['killed', 'terminated', 'Ctrl-C'])
def test_processes_end_with_their_parent(how, tmp_path):
    parent = FORK.Process(target=_own_pool, args=(tmp_path, 60))
    parent.start()
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert all(running(pid) for pid in pids)
    if how == 'Ctrl-C':  # comes to all processes of a terminal
        os.killpg(parent.pid, signal.SIGINT)
    else:
        kind = signal.SIGKILL if how == 'killed' else signal.SIGTERM
        os.kill(parent.pid, kind)
    parent.join(20)
    assert parent.exitcode not in (None, 0)
    wait_until(lambda: not any(running(pid) for pid in pids))


def test_number_of_processes(monkeypatch):
    for cpus, ranks, expected in (
        (1, 1, 0),
        (2, 1, 1),
        (4, 1, 3),
        (64, 1, 4),
        (64, 8, 4),
        (16, 8, 1),
        (8, 8, 0),
        (2, 8, 0),
    ):
        monkeypatch.setattr(
            os, 'sched_getaffinity', lambda _, n=cpus: set(range(n))
        )
        monkeypatch.setenv('LOCAL_WORLD_SIZE', str(ranks))
        assert default_num_workers() == expected
