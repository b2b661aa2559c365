# Copyright (c) MotionMAE contributors. All rights reserved.
import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.processes import HUNG, hang, running, wait_until

from mmmotionmae.utils.errors import ScoringError
from mmmotionmae.utils.processes import ScoringPool, default_num_workers

FORK = multiprocessing.get_context('fork')


def square(number, note=None, after=None):
    """Square a number once there is a note, and leave one."""
    if after is not None:
        wait_until(after.exists)
    if note is not None:
        note.touch()
    return number**2, os.getpid()


def fail(error):
    raise error


@pytest.mark.parametrize('num_workers', [0, 1, 3])
def test_scores_come_in_order(num_workers, tmp_path):
    torch.rand(300, 300) @ torch.rand(300, 300)  # the parent has threads
    pool = ScoringPool(num_workers)
    for time in range(2):  # it can be used again
        notes = [tmp_path / f'{time}-{number}' for number in range(8)]
        for number, note in enumerate(notes):
            # With several processes the first job ends last.
            wait = num_workers > 1 and number == 0
            job = partial(square, number, note, notes[7] if wait else None)
            pool.submit(f's{number}', job)
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
    with pytest.raises(ScoringError, match='dog'):  # long before it is asked
        # Perhaps at once, where the job is done before this call ends.
        pool.submit('dog', partial(fail, ValueError('too small')))
        wait_until(lambda: pool.submit('cat', partial(square, 1)))


def test_a_process_that_dies():
    pool = ScoringPool(1)
    with pytest.raises(ScoringError, match='num_workers=0'):
        pool.submit('cat', partial(os._exit, 9))  # it may have died by now
        pool.finish()
    assert pool.finish() == []


def _own_pool(folder):
    """A process, in a group of its own, that waits for two others."""
    os.setsid()
    # Whatever started the tests may have set others.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pool = ScoringPool(2)
    for name in 'ab':
        pool.submit(name, partial(_hang, Path(folder)))
    pool.finish()


def _hang(folder):
    (folder / str(os.getpid())).touch()
    hang()


@pytest.mark.parametrize(
    'how,exit_code',
    [
        ('killed', -signal.SIGKILL),
        ('terminated', -signal.SIGTERM),
        ('Ctrl-C', 1),
    ],
)
def test_processes_end_with_their_parent(how, exit_code, tmp_path):
    parent = FORK.Process(target=_own_pool, args=(tmp_path,))
    parent.start()
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    try:
        assert all(running(pid) for pid in pids)
        if how == 'Ctrl-C':  # comes to all processes of a terminal
            os.killpg(parent.pid, signal.SIGINT)
        else:
            os.kill(parent.pid, -exit_code)
        parent.join(HUNG)
        assert parent.exitcode == exit_code
        wait_until(lambda: not any(running(pid) for pid in pids))
    finally:
        for pid in [*pids, parent.pid]:
            if running(pid):
                os.kill(pid, signal.SIGKILL)


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
