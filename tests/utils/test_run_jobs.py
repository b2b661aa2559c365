# Copyright (c) MotionMAE contributors. All rights reserved.
"""Jobs whose processes crash, hang or fail."""

import argparse
import ctypes
import errno
import multiprocessing
import os
import signal
import time

import pytest

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.arguments import add_job_arguments, int_from, run_job_tool
from mmmotionmae.utils.errors import VideoError
from mmmotionmae.utils.processes import run_jobs


def work(job):
    """Do what the job says."""
    if job == 'hang':
        time.sleep(60)
    if job == 'hang in C':
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        ctypes.CDLL(None).sleep(60)
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


def reasons(jobs, num_workers=2, time_limit=30.0):
    results = list(run_jobs(work, jobs, num_workers, time_limit))
    assert sorted(job for job, _, _ in results) == sorted(jobs)
    for job, result, reason in results:
        assert (result is None) == bool(reason)
        assert reason or result[1] == job
    assert multiprocessing.active_children() == []
    return {job: reason for job, _, reason in results}


def test_every_job_is_done_in_a_few_processes_that_last():
    jobs = [f'job {i}' for i in range(40)]
    results = list(run_jobs(work, jobs, 3, 30))
    assert sorted(result[1] for _, result, _ in results) == sorted(jobs)
    pids = {result[0] for _, result, _ in results}
    assert 1 <= len(pids) <= 3 and os.getpid() not in pids
    assert list(run_jobs(work, [], 3, 30)) == []


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


@pytest.mark.parametrize('job', ['hang', 'hang in C'])
def test_a_hang_is_killed_and_the_others_go_on(job):
    start = time.monotonic()
    found = reasons(['a', job, 'b', 'c', 'SIGSEGV'], time_limit=1)
    assert 1 <= time.monotonic() - start < 10
    assert found[job] == 'takes more than 1 s'
    assert found['a'] == found['b'] == found['c'] == ''


def test_the_limit_is_for_each_job():
    results = list(run_jobs(time.sleep, [0.4] * 4, 1, 1.2))
    assert [reason for _, _, reason in results] == [''] * 4


@pytest.mark.parametrize(
    'job,message',
    [('full', 'no space left'), ('no decoder', 'it needs decord')],
)
def test_what_ends_everything(job, message):
    with pytest.raises(UsageError, match=message):
        reasons(['a', job, 'b'])
    assert multiprocessing.active_children() == []


def test_closing_ends_all_and_cleans_up():
    cleaned = []
    results = run_jobs(work, ['a', 'hang', 'b'], 2, 30, cleaned.append)
    assert next(results)[0] == 'a'
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 10
    assert 'hang' in cleaned and 'a' not in cleaned
    assert multiprocessing.active_children() == []
    list(run_jobs(work, ['c', 'bad', 'SIGSEGV'], 2, 30, cleaned.append))
    assert 'SIGSEGV' in cleaned and not {'c', 'bad'} & set(cleaned)


def test_signals_to_the_whole_group_are_for_the_parent():
    for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):
        assert reasons([name]) == {name: ''}


def test_processes_die_with_their_parent(tmp_path):
    note = tmp_path / 'pid'

    def hang(job):
        note.write_text(str(os.getpid()))
        time.sleep(60)

    def parent():
        list(run_jobs(hang, [0], 1, 50))

    process = multiprocessing.get_context('fork').Process(target=parent)
    process.start()
    end = time.monotonic() + 20
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)
    child = int(note.read_text())
    try:
        assert running(child)
        process.kill()
        process.join()
        while running(child):
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        if running(child):
            os.kill(child, signal.SIGKILL)


def running(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


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
