# Copyright (c) MotionMAE contributors. All rights reserved.
"""Jobs whose processes crash, hang or fail."""

import argparse
import ctypes
import errno
import multiprocessing
import os
import signal
import threading
from functools import partial

import pytest
from helpers.processes import HUNG, clock_until, hang, running, wait_until

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.arguments import add_job_arguments, int_from
from mmmotionmae.cli.running import run_job_tool
from mmmotionmae.utils.errors import VideoError
from mmmotionmae.utils.processes import run_jobs


def work(job, note=None):
    """Do what the job says; before it hangs, leave a note."""
    if job == 'hang':
        note.touch()
        hang()
    if job == 'hang in C':
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        note.touch()
        ctypes.CDLL(None).sleep(HUNG)
    if job.startswith('SIG'):
        os.kill(os.getpid(), getattr(signal, job))
    if job == 'exit':
        os._exit(3)
    if job == 'bad':
        raise VideoError('frame 3\tof 4 is\nbad')
    if job == 'odd':
        raise ZeroDivisionError('by zero')
    if job == 'full':
        raise OSError(errno.ENOSPC, 'no space left', '/data')
    if job == 'no decoder':
        raise ImportError('it needs decord')
    return os.getpid(), job


def reasons(jobs, num_workers=2):
    results = list(run_jobs(work, jobs, num_workers, HUNG))
    assert sorted(job for job, _, _ in results) == sorted(jobs)
    for job, result, reason in results:
        assert (result is None) == bool(reason)
        assert reason or result[1] == job
    wait_until(lambda: not multiprocessing.active_children())
    return {job: reason for job, _, reason in results}


def test_every_job_is_done_in_a_few_processes_that_last():
    jobs = [f'job {i}' for i in range(40)]
    results = list(run_jobs(work, jobs, 3, HUNG))
    assert sorted(result[1] for _, result, _ in results) == sorted(jobs)
    pids = {result[0] for _, result, _ in results}
    assert 1 <= len(pids) <= 3 and os.getpid() not in pids
    assert list(run_jobs(work, [], 3, HUNG)) == []


def test_crashes_are_reported_and_the_others_go_on():
    good = [f'job {i}' for i in range(6)]
    bad = dict(
        SIGSEGV='the decoder crashed (SIGSEGV)',
        SIGABRT='the decoder crashed (SIGABRT)',
        SIGKILL='the decoder crashed (SIGKILL, for lack of memory?)',
        exit='the decoder ended its process (exit code 3)',
        bad='frame 3 of 4 is',
        odd='ZeroDivisionError: by zero',
    )
    jobs = [job for pair in zip(good, bad, strict=True) for job in pair]
    assert reasons(jobs) == dict.fromkeys(good, '') | bad


def test_a_process_that_dies_after_its_job_is_replaced(tmp_path):
    note = tmp_path / 'may die'

    def end():
        wait_until(note.exists)
        os._exit(3)

    def do(job):
        if job == 'a':
            threading.Thread(target=end).start()
        return os.getpid()

    cleaned = []
    results = run_jobs(do, ['a', 'b', 'c'], 1, HUNG, cleaned.append)
    job, first, _ = next(results)
    assert job == 'a'
    note.touch()
    wait_until(lambda: not running(first))
    (_, second, reason), (_, third, _) = results
    assert second == third != first and reason == '' and cleaned == []


@pytest.mark.parametrize('job', ['hang', 'hang in C'])
def test_a_hang_is_killed_and_its_process_replaced(job, tmp_path):
    note = tmp_path / 'hangs'
    results = run_jobs(
        partial(work, note=note),
        ['a', job, 'b'],
        num_workers=1,
        time_limit=0.05,
        clock=clock_until(note),
    )
    found = [(job, reason) for job, _, reason in results]
    assert found == [('a', ''), (job, 'takes more than 0.05 s'), ('b', '')]
    wait_until(lambda: not multiprocessing.active_children())


def test_the_others_go_on_beside_a_hang(tmp_path):
    note, found = tmp_path / 'hangs', {}

    def clock():  # stands still until all others are done
        return 9.0 if note.exists() and len(found) == 4 else 0.0

    jobs = ['a', 'hang', 'b', 'SIGSEGV', 'c']
    for job, _, reason in run_jobs(
        partial(work, note=note), jobs, 2, 0.05, clock=clock
    ):
        found[job] = reason
    assert found == dict(
        a='',
        b='',
        c='',
        SIGSEGV='the decoder crashed (SIGSEGV)',
        hang='takes more than 0.05 s',
    )


def test_the_limit_is_for_each_job(tmp_path):
    """Each job takes 0.9 of it."""

    def wait_for_the_clock(job):
        (tmp_path / f'{job} began').touch()
        wait_until((tmp_path / f'{job} may end').exists)

    def clock():
        began = list(tmp_path.glob('* began'))
        for path in began:
            path.with_name(path.name.replace('began', 'may end')).touch()
        return len(began) * 0.9 * 0.05

    results = run_jobs(wait_for_the_clock, range(4), 1, 0.05, clock=clock)
    assert list(results) == [(job, None, '') for job in range(4)]


def test_the_limit_is_in_seconds(tmp_path):
    function = partial(work, note=tmp_path / 'hangs')
    results = list(run_jobs(function, ['hang'], 1, 0.1))
    assert results == [('hang', None, 'takes more than 0.1 s')]


@pytest.mark.parametrize(
    'job,message',
    [('full', 'no space left'), ('no decoder', 'it needs decord')],
)
def test_what_ends_everything(job, message):
    with pytest.raises(UsageError, match=message):
        reasons(['a', job, 'b'])
    wait_until(lambda: not multiprocessing.active_children())


def test_closing_ends_all_and_cleans_up(tmp_path):
    note, cleaned = tmp_path / 'hangs', []
    function = partial(work, note=note)
    results = run_jobs(function, ['a', 'hang', 'b'], 2, HUNG, cleaned.append)
    assert next(results)[0] == 'a'
    wait_until(note.exists)
    children = multiprocessing.active_children()
    assert len(children) == 2
    results.close()
    for child in children:
        child.join(HUNG)
        assert child.exitcode == -signal.SIGKILL
    assert cleaned == ['hang']
    list(run_jobs(work, ['c', 'bad', 'SIGSEGV'], 2, HUNG, cleaned.append))
    assert cleaned == ['hang', 'SIGSEGV']


def test_signals_to_the_whole_group_are_for_the_parent():
    names = ['SIGINT', 'SIGTERM', 'SIGHUP']
    assert reasons(names, num_workers=1) == dict.fromkeys(names, '')


def test_processes_die_with_their_parent(tmp_path):
    def hang_here(job):
        (tmp_path / str(os.getpid())).touch()
        hang()

    def parent():
        list(run_jobs(hang_here, [0], 1, HUNG))

    process = multiprocessing.get_context('fork').Process(target=parent)
    process.start()
    wait_until(lambda: list(tmp_path.iterdir()))
    (child,) = (int(path.name) for path in tmp_path.iterdir())
    try:
        assert running(child)
        process.kill()
        process.join()
        wait_until(lambda: not running(child))
    finally:
        if running(child):
            os.kill(child, signal.SIGKILL)


def test_exit_codes(capsys):
    def interrupted():
        raise KeyboardInterrupt

    def forbidden():
        raise PermissionError(errno.EACCES, 'Permission denied', '/data')

    assert run_job_tool(list) == 0
    assert run_job_tool(interrupted) == 130
    assert 'interrupted; the same command goes on' in capsys.readouterr().err
    assert run_job_tool(forbidden) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and "'/data'" in error


def test_arguments(capsys):
    parser = argparse.ArgumentParser()
    add_job_arguments(parser, time_limit=60)
    parser.add_argument('--crf', type=int_from(0, 51))
    args = parser.parse_args([])
    assert args.num_workers == len(os.sched_getaffinity(0))
    assert args.time_limit == 60
    args = parser.parse_args('--crf 51 --time-limit .5'.split())
    assert args.crf == 51 and args.time_limit == 0.5
    for text, message in {
        '--num-workers 0': 'must be from 1 on',
        '--crf 52': 'must be from 0 to 51',
        '--crf x': "invalid int value: 'x'",
        '--time-limit 0': 'must be above 0',
        '--time-limit nan': 'must be above 0',
    }.items():
        with pytest.raises(SystemExit):
            parser.parse_args(text.split())
        assert message in capsys.readouterr().err
