# Copyright (c) MotionMAE contributors. All rights reserved.
"""A warning, once, if a training waits for its videos."""

import logging
import uuid
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest
from conftest import ROOT
from mmengine.config import Config
from mmengine.hooks import IterTimerHook, iter_timer_hook
from mmengine.logging import MessageHub, MMLogger

from mmmotionmae.engine import LoaderWaitHook


@pytest.fixture
def warnings(tmp_path):
    """The warnings so far."""
    path = tmp_path / 'log.txt'
    handler = logging.FileHandler(path, encoding='utf-8')
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lambda: [
        line
        for line in path.read_text(encoding='utf-8').splitlines()
        if 'waits for videos' in line
    ]
    logger.removeHandler(handler)
    handler.close()


class Loader(SimpleNamespace):
    """What the hook looks at."""

    def __len__(self):
        return self.size


def make_runner(
    num_repeats=4, num_workers=3, size=10**6, persistent_workers=True
):
    dataset = SimpleNamespace()
    if num_repeats:
        dataset.num_repeats = num_repeats
    return SimpleNamespace(
        message_hub=MessageHub.get_instance(uuid.uuid4().hex),
        train_dataloader=Loader(
            dataset=dataset,
            num_workers=num_workers,
            size=size,
            persistent_workers=persistent_workers,
        ),
    )


def run(hook, runner, steps):
    """Iterations of some (waiting, whole) seconds each."""
    for i, (wait, step) in enumerate(steps, 1):
        hook.before_train_iter(runner, i)
        runner.message_hub.update_scalar('train/data_time', wait)
        runner.message_hub.update_scalar('train/time', step)
        hook.after_train_iter(runner, i)


def test_the_warning(warnings):
    runner, hook = make_runner(), LoaderWaitHook()
    hook.before_train(runner)
    run(hook, runner, 109 * [(0.3, 1.0)])
    assert warnings() == []  # too early
    run(hook, runner, [(0.3, 1.0)])
    (line,) = warnings()
    assert '0.3 of the 1 s of a step (30%), over 100 steps' in line
    assert 'resize_videos.py' in line and 'num_repeats, now 4' in line
    assert 'num_workers (now 3;' in line
    run(hook, runner, 300 * [(0.9, 1.0)])
    hook.before_train(runner)
    run(hook, runner, 300 * [(0.9, 1.0)])
    assert len(warnings()) == 1


@pytest.mark.parametrize(
    ('steps', 'number'),
    [
        (500 * [(0.19, 1.0)], 0),
        (500 * [(0.21, 1.0)], 1),
        (10 * [(60.0, 61.0)] + 500 * [(0.1, 1.0)], 0),  # it starts
        (110 * [(0.1, 1.0)] + 100 * [(3.0, 4.0)], 1),  # slower later on
        (500 * [(0.0, 1.0), (0.0, 1.0), (0.9, 1.9)], 1),  # 0.3 of 1.3
        (500 * [(0.0, 1.0)] * 9 + 9 * [(2.0, 3.0)], 0),  # once in a while
    ],
)
def test_what_is_too_much(warnings, steps, number):
    runner, hook = make_runner(), LoaderWaitHook()
    hook.before_train(runner)
    run(hook, runner, steps)
    assert len(warnings()) == number


def test_another_limit_and_a_loader_without_repeats(warnings):
    runner = make_runner(num_repeats=None, num_workers=0)
    hook = LoaderWaitHook(max_share=0.5, interval=4)
    hook.before_train(runner)
    run(hook, runner, 14 * [(0.4, 1.0)])
    assert warnings() == []
    run(hook, runner, 4 * [(0.6, 1.0)])
    (line,) = warnings()
    assert 'over 4 steps' in line and 'num_repeats' not in line


def test_without_the_timer(warnings):
    runner, hook = make_runner(), LoaderWaitHook(interval=1)
    for i in range(20):
        hook.before_train_iter(runner, i)
        hook.after_train_iter(runner, i)
    assert warnings() == []


def test_times_of_before_a_resumption_do_not_count(warnings):
    """The checkpoint brings their history."""
    runner, hook = make_runner(), LoaderWaitHook()
    run(LoaderWaitHook(max_share=0.99), runner, 500 * [(0.9, 1.0)])
    hook.before_train(runner)
    run(hook, runner, 500 * [(0.1, 1.0)])
    assert warnings() == []


@pytest.mark.parametrize('bad', [dict(max_share=0), dict(max_share=1)])
def test_bad_shares(bad):
    with pytest.raises(ValueError, match=r'max_share must be in \(0, 1\)'):
        LoaderWaitHook(**bad)


def test_a_bad_interval():
    with pytest.raises(ValueError, match='interval must be at least 1'):
        LoaderWaitHook(interval=0)


def test_it_reads_what_the_timer_writes(warnings, monkeypatch):
    clock = SimpleNamespace(time=partial(next, count()))  # a second a look
    monkeypatch.setattr(iter_timer_hook, 'time', clock)
    runner, timer = make_runner(), IterTimerHook()
    vars(runner).update(iter=0, max_iters=100)
    hook = LoaderWaitHook(interval=1)
    timer.before_train(runner)
    timer.before_train_epoch(runner)
    hook.before_train_epoch(runner)
    for i in range(12):
        timer.before_train_iter(runner, i)
        hook.before_train_iter(runner, i)
        timer.after_train_iter(runner, i)
        hook.after_train_iter(runner, i)
    (line,) = warnings()
    assert '1 of the 2 s of a step (50%), over 1 steps' in line


def timed_run(hook, events, monkeypatch, size=10**6, steps=330):
    """Steps of 0.3 s that hardly wait, and what takes 10 s in between.

    By the order of MMEngine's loops and of the hooks' priorities, on a clock
    that is set.
    """
    clock = SimpleNamespace(now=0.0)
    clock.time = lambda: clock.now
    monkeypatch.setattr(iter_timer_hook, 'time', clock)
    runner, timer = make_runner(size=size), IterTimerHook()
    vars(runner).update(iter=0, max_iters=steps, val_dataloader=[0])
    hooks = timer, hook

    def call(name, *args):
        for each in hooks:
            getattr(each, name)(runner, *args)

    call('before_train')
    call('before_train_epoch')
    for runner.iter in range(steps):
        if runner.iter % size == 0:
            clock.now += 10 * ('restart' in events)
        clock.now += 0.01
        call('before_train_iter', runner.iter)
        clock.now += 0.29
        call('after_train_iter', runner.iter)
        if runner.iter % 25 == 24:
            if 'save' in events:
                call('before_save_checkpoint', {})
                clock.now += 10
            if 'epoch' in events:
                call('after_train_epoch')
                call('before_train_epoch')
                clock.now += 10
            if 'val' in events:
                call('before_val')
                call('before_val_epoch')
                call('before_val_iter', 0)
                call('after_val_iter', 0)
                clock.now += 10  # metrics, the best checkpoint
                call('after_val_epoch')
                call('after_val')
            if 'other' in events:
                clock.now += 10


@pytest.mark.parametrize('event', ['save', 'val', 'epoch', 'restart'])
def test_what_is_no_waiting_for_videos(warnings, monkeypatch, event):
    size = 25 if event == 'restart' else 10**6
    timed_run(LoaderWaitHook(), [event], monkeypatch, size)
    assert warnings() == []


def test_waiting_once_in_a_while_is_still_seen(warnings, monkeypatch):
    timed_run(LoaderWaitHook(), ['save', 'other'], monkeypatch)
    assert warnings() == []  # after a save
    timed_run(LoaderWaitHook(), ['other'], monkeypatch)
    assert len(warnings()) == 1


def test_advice_on_processes_that_start_each_epoch(warnings):
    for num_workers, persistent, told in (
        (2, True, False),
        (0, False, False),
        (2, False, True),
    ):
        hook = LoaderWaitHook()
        runner = make_runner(
            num_workers=num_workers, persistent_workers=persistent
        )
        run(hook, runner, 110 * [(0.9, 1.0)])
        assert ('persistent_workers=True' in warnings()[-1]) == told


def test_a_loader_without_a_length(warnings):
    runner = make_runner()
    runner.train_dataloader = SimpleNamespace(
        dataset=SimpleNamespace(), num_workers=0
    )
    run(LoaderWaitHook(), runner, 110 * [(0.9, 1.0)])
    assert len(warnings()) == 1


def test_it_is_on_by_default_and_follows_the_timer():
    cfg = Config.fromfile(ROOT / 'configs/_base_/default_runtime.py')
    assert cfg.default_hooks.loader_wait.type == 'LoaderWaitHook'
    order = ['VERY_HIGH', 'HIGH', 'ABOVE_NORMAL', 'NORMAL', 'BELOW_NORMAL']
    order += ['LOW', 'VERY_LOW']
    timer, ours = IterTimerHook.priority, LoaderWaitHook.priority
    assert order.index(timer) < order.index(ours)
