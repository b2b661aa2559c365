# Copyright (c) MotionMAE contributors. All rights reserved.
"""The time that is left."""

import io
import sys

import pytest
from benchmarks.common import rounds
from helpers.fake_clock import FakeClock

from mmmotionmae.utils import time_left as module
from mmmotionmae.utils.time_left import in_words, progress_bar, time_left


@pytest.mark.parametrize(
    'seconds,words',
    [
        (0, '0 s'),
        (89.4, '89 s'),
        (89.6, '1 min'),
        (150, '2 min'),
        (59 * 60, '59 min'),
        (99.4 * 60, '99 min'),
        (100 * 60, '1 h 40 min'),
        (90_000, '25 h 00 min'),
    ],
)
def test_durations(seconds, words):
    assert in_words(seconds) == words


def test_time_left_goes_by_the_speed_so_far():
    assert time_left(2, 8, 10.0) == 'about 30 s left'
    assert time_left(0.5, 1, 600) == 'about 10 min left'
    assert time_left(0, 8, 10.0) == time_left(8, 8, 10.0) == ''


def test_rounds_tell_it_without_the_warm_up(capsys):
    clock = FakeClock()
    for now, _ in rounds('ab', 3, warm_up=2, clock=clock):
        clock.advance(100 if now < 0 else 20)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        'warming up, 2 to go',
        'warming up, 1 to go',
        'round 1 of 3',
        'round 2 of 3, about 40 s left',
        'round 3 of 3, about 20 s left',
    ]


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize('terminal', [True, False])
def test_a_bar(monkeypatch, terminal):
    stream = Stream(terminal)
    monkeypatch.setattr(sys, 'stderr', stream)
    with progress_bar(10, 'video', done=4, title='list') as bar:
        assert bar.mininterval == (0.1 if terminal else module.SLOW)
        for _ in range(6):
            bar.update()
    assert bar.n == bar.total == 10 and bar.initial == 4
    shown = stream.getvalue()
    assert 'list' in shown and '4/10' in shown and '10/10' in shown


def test_no_bar(monkeypatch):
    stream = Stream(True)
    monkeypatch.setattr(sys, 'stderr', stream)
    with progress_bar(10, 'video', show=False) as bar:
        bar.update(10)
    assert stream.getvalue() == ''
