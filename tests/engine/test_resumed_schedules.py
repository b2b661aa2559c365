# Copyright (c) MotionMAE contributors. All rights reserved.
"""A run that is resumed with another config, batch or kind of checkpoint."""

import logging
import math
import shutil
from pathlib import Path

import pytest
import torch
from helpers.resumed_runs import FINETUNE, PRETRAIN, differences, state_of
from mmengine.hooks import Hook
from mmengine.logging import MMLogger

from mmmotionmae.engine.resuming.position import (
    Pace,
    move,
    start_of_accumulation,
)
from mmmotionmae.utils.errors import UsageError

# 32 videos, 4 batches of 8 an epoch.
BATCH = 'train_dataloader.batch_size=8'
LR, MINIMUM = 2e-3, 2e-5


def schedule(epochs):
    """An epoch of warm-up, then a cosine to the end."""
    return [
        BATCH,
        'param_scheduler.0.end=1',
        'param_scheduler.1.begin=1',
        f'param_scheduler.1.end={epochs}',
    ]


def cosine(step, epochs):
    """Closed form, of a step after the warm-up; 4 steps an epoch."""
    share = (step - 4) / (4 * (epochs - 1))
    return MINIMUM + (LR - MINIMUM) * (1 + math.cos(math.pi * share)) / 2


class Rates(Hook):
    """Learning rates of all steps, and what is logged."""

    def __init__(self):
        self.lrs, self.log = [], []

    def before_run(self, runner):
        handler = logging.Handler()
        handler.emit = lambda record: self.log.append(record.getMessage())
        logger = MMLogger.get_current_instance()
        logger.setLevel('INFO')
        logger.addHandler(handler)

    def before_train_iter(self, runner, batch_idx, data_batch):
        self.lrs.append(runner.optim_wrapper.get_lr()['lr'][0])

    def lines(self, word):
        return [line for line in self.log if word in line]


RUNNERS = ['Runner', 'FlexibleRunner']
both_runners = pytest.mark.parametrize('go', RUNNERS, indirect=True)


@pytest.fixture
def go(train, request):
    """Train, and give the runner and the :class:`Rates`."""
    kind = getattr(request, 'param', 'Runner')

    def run(work_dir, *flags, epochs, options, config=PRETRAIN, **kwargs):
        rates = Rates()
        runner = train(
            config,
            work_dir,
            *flags,
            epochs=epochs,
            options=[*options, f'runner_type={kind}'],
            hooks=[rates],
            **kwargs,
        )
        return runner, rates

    return run


@both_runners
def test_schedule_for_a_run_that_had_none(go):
    go('run', epochs=2, options=[BATCH, 'param_scheduler=None'])
    _, rates = go('run', '--resume', epochs=4, options=schedule(4))
    expected = [cosine(step, 4) for step in range(8, 16)]
    assert rates.lrs == pytest.approx(expected, rel=1e-6)
    (line,) = rates.lines('The schedule is not that of the checkpoint')
    assert 'it had none' in line and 'from iteration 8 on' in line


@both_runners
def test_no_schedule_for_a_run_that_had_one(go):
    go('run', epochs=2, options=schedule(3))
    _, rates = go(
        'run', '--resume', epochs=3, options=[BATCH, 'param_scheduler=None']
    )
    assert rates.lrs == [LR] * 4


def test_longer_schedule(go):
    _, before = go('run', epochs=3, options=schedule(3))
    expected = [cosine(step, 3) for step in range(4, 12)]
    assert before.lrs[4:] == pytest.approx(expected, rel=1e-6)
    assert not before.lines('The schedule')
    shutil.copytree('run', 'longer')
    _, rates = go('run', '--resume', epochs=6, options=schedule(6))
    expected = [cosine(step, 6) for step in range(12, 24)]
    assert rates.lrs == pytest.approx(expected, rel=1e-6)
    (line,) = rates.lines('The schedule is not that of the checkpoint')
    assert 'CosineAnnealingLR: T_max 8 -> 20, end 12 -> 24' in line
    # Only the epochs, as one may forget.
    _, rates = go('longer', '--resume', epochs=4, options=schedule(3))
    assert rates.lrs[1:] == pytest.approx([rates.lrs[0]] * 3)
    (line,) = rates.lines('ends at iteration 12, the training at 16')
    assert 'lr' in line and 'from there on it stays as it is' in line


@both_runners
def test_schedules_that_do_not_end_with_the_training(go):
    _, rates = go('cut', epochs=1, options=schedule(3))
    assert rates.lines('The schedule') == [
        'The schedule of lr ends at iteration 12, the training at 4: it is '
        'cut off (`end` in param_scheduler).'
    ]
    _, rates = go('short', epochs=3, options=schedule(2))
    assert rates.lines('The schedule') == [
        'The schedule of lr ends at iteration 8, the training at 12: from '
        'there on it stays as it is (`end` in param_scheduler).'
    ]
    # After a warm-up alone the rate is meant to stay; others have no end.
    warm_up = "[{'type': 'LinearLR', 'end': 1, 'by_epoch': True}]"
    steps = "[{'type': 'StepLR', 'step_size': 2, 'by_epoch': True}]"
    for name, schedules in dict(warm_up=warm_up, steps=steps).items():
        _, rates = go(
            name, epochs=2, options=[BATCH, f'param_scheduler={schedules}']
        )
        assert not rates.lines('The schedule')


@both_runners
def test_learning_rate_of_the_checkpoint_or_of_the_config(go):
    go('run', epochs=2, options=schedule(3))
    shutil.copytree('run', 'forced')
    changes = [
        'optim_wrapper.optimizer.lr=1e-4',
        'optim_wrapper.optimizer.weight_decay=0.1',
    ]
    runner, rates = go(
        'run', '--resume', epochs=3, options=[*schedule(3), *changes]
    )
    expected = [cosine(step, 3) for step in range(8, 12)]
    assert rates.lrs == pytest.approx(expected, rel=1e-6)
    (line,) = rates.lines('The config asks for other numbers')
    assert 'lr 0.002 -> 0.0001, weight_decay 0.05 -> 0.1' in line
    assert '--cfg-options resume_optimizer=config' in line
    assert rates.lines('Learning rate: 0.002 before its schedule, now 0.00101')
    assert not rates.lines('as in the config')

    changes.append('resume_optimizer=config')
    runner, rates = go(
        'forced', '--resume', epochs=3, options=[*schedule(3), *changes]
    )
    expected = [lr / 20 for lr in expected]
    assert rates.lrs == pytest.approx(expected, rel=1e-6)
    groups = runner.optim_wrapper.optimizer.param_groups
    assert {group['weight_decay'] for group in groups} == {0.1, 0}


@both_runners
def test_checkpoint_without_the_optimiser(go):
    """It starts afresh, but not its warm-up."""
    option = 'default_hooks.checkpoint.save_optimizer=False'
    go('run', epochs=2, options=[*schedule(3), option])
    runner, rates = go('run', '--resume', epochs=3, options=schedule(3))
    expected = [cosine(step, 3) for step in range(8, 12)]
    assert rates.lrs == pytest.approx(expected, rel=1e-6)
    (line,) = rates.lines('holds no state of the optimiser')
    assert 'at iteration 8 of its schedule' in line
    states = runner.optim_wrapper.optimizer.state.values()
    assert {int(state['step']) for state in states} == {4}


@both_runners
def test_checkpoint_without_the_schedule(go):
    whole, _ = go('whole', epochs=3, options=schedule(3))
    option = 'default_hooks.checkpoint.save_param_scheduler=False'
    go('run', epochs=1, options=[*schedule(3), option])
    resumed, rates = go('run', '--resume', epochs=3, options=schedule(3))
    assert differences(state_of(whole), state_of(resumed)) == []
    assert rates.lines('it had none')


@both_runners
@pytest.mark.parametrize('batch_size', [4, 16])
def test_other_batch_goes_on_at_the_same_place(go, batch_size):
    """As on half, or twice as many processes."""
    go('run', epochs=1, options=schedule(3))
    runner, rates = go(
        'run',
        '--resume',
        epochs=3,
        options=[*schedule(3), f'train_dataloader.batch_size={batch_size}'],
    )
    per_epoch = 32 // batch_size
    assert runner.iter == 3 * per_epoch
    # From the top of the cosine to its end.
    total = 2 * per_epoch
    expected = [
        MINIMUM + (LR - MINIMUM) * (1 + math.cos(math.pi * i / total)) / 2
        for i in range(total)
    ]
    assert rates.lrs == pytest.approx(expected, rel=1e-6)
    (line,) = rates.lines('An epoch had 4 batches of 8 videos')
    assert f'now it has {per_epoch} of {batch_size}' in line
    assert 'train_dataloader.batch_size=8' in line


def test_place_in_the_data_at_another_pace():
    two, one, three = Pace(4, 8), Pace(8, 4), Pace(3, 12)
    assert move(1, 4, two, one) == 8
    assert move(1, 4, two, three) == 3
    assert move(1, 4 + 3, two, one) == 8 + 6  # 24 videos of the epoch
    assert move(1, 4 + 2, two, three) == 3 + 1  # 4 of 16 are done again
    assert move(1, 8, two, one) == 16  # the end of an epoch stays one
    assert move(1, 8, two, three) == 6
    assert move(0, 3, Pace(4, 0), one) == 6  # what a batch was is not known
    assert Pace.of_checkpoint(dict(epoch=3, iter=12)) == (4, 0)
    assert Pace.of_checkpoint(dict(epoch=3, iter=13)) is None
    assert Pace.of_checkpoint(dict(epoch=3, iter=13, pace=[4, 8])) == two


def test_start_of_an_accumulation():
    starts = [start_of_accumulation(done, 8, 3) for done in range(9)]
    assert starts == [0, 0, 0, 3, 3, 3, 6, 6, 8]


def test_stock_loop_in_mid_epoch_is_refused(go):
    stock = 'train_cfg.type=EpochBasedTrainLoop'
    every_3 = [
        'default_hooks.checkpoint.by_epoch=False',
        'default_hooks.checkpoint.interval=3',
        'default_hooks.checkpoint.save_last=False',
    ]
    go('run', epochs=1, options=[*schedule(3), *every_3, stock])
    assert Path('run/last_checkpoint').read_text() == 'iter_3.pth'
    with pytest.raises(UsageError, match='ResumableEpochLoop'):
        go('run', '--resume', epochs=3, options=[*schedule(3), stock])


class Validations(Hook):
    """After which epochs was validated; may end the run in the first."""

    def __init__(self, interrupt=False):
        self.epochs, self.interrupt = [], interrupt

    def after_val_iter(self, runner, batch_idx, data_batch, outputs):
        if self.interrupt:
            raise KeyboardInterrupt

    def after_val_epoch(self, runner, metrics):
        self.epochs.append((runner.epoch, metrics['acc/top1']))


def test_interrupted_validation_is_done(train):
    def run(work_dir, *flags, interrupt=False):
        seen = Validations(interrupt)
        options = ['train_cfg.val_interval=1', BATCH]
        train(
            FINETUNE,
            work_dir,
            *flags,
            hooks=[seen],
            options=options,
            validate=True,
        )
        return seen.epochs

    whole = run('whole')
    assert [epoch for epoch, _ in whole] == [1, 2]
    with pytest.raises(KeyboardInterrupt):
        run('run', interrupt=True)
    assert run('run', '--resume') == whole


@pytest.mark.parametrize('kind', RUNNERS)
def test_best_checkpoint_alone_is_a_run(train, kind):
    options = [
        f'runner_type={kind}',
        'train_cfg.val_interval=1',
        'default_hooks.checkpoint.interval=-1',
        'default_hooks.checkpoint.save_best=auto',
        'default_hooks.checkpoint.save_last=False',
    ]
    train(FINETUNE, 'run', epochs=1, options=options, validate=True)
    assert not Path('run/last_checkpoint').exists()
    with pytest.raises(UsageError, match='holds the checkpoints'):
        train(FINETUNE, 'run', epochs=1)
    rates = Rates()
    train(
        FINETUNE,
        'run',
        '--resume',
        epochs=2,
        hooks=[rates],
        options=[f'runner_type={kind}'],
    )
    assert len(rates.lrs) == 4  # the second epoch alone
    assert rates.lines('holds no state of the optimiser')


def test_copied_run_goes_on_with_its_own_checkpoint(go):
    """The run that it was copied from has gone another way meanwhile."""
    go('a', epochs=1, options=schedule(2))
    Path('a/last_checkpoint').write_text('a/epoch_1.pth')  # MMEngine's
    shutil.copytree('a', 'b')
    go('a', '--overwrite', '--seed', '9', epochs=1, options=schedule(2))
    whole, _ = go('whole', epochs=2, options=schedule(2))
    resumed, _ = go('b', '--resume', epochs=2, options=schedule(2))
    assert resumed.iter == 8
    assert differences(state_of(whole), state_of(resumed)) == []


def test_truncated_checkpoint_and_left_overs(go):
    whole, _ = go('run', epochs=3, options=schedule(3))
    state = state_of(whole)
    path = Path('run/epoch_3.pth')
    path.write_bytes(path.read_bytes()[:-1000])
    Path('run/epoch_3.pth.999999999.tmp').write_text('half')
    resumed, rates = go('run', '--resume', epochs=3, options=schedule(3))
    assert len(rates.lrs) == 4
    assert differences(state, state_of(resumed)) == []
    (line,) = rates.lines('is truncated: going on from')
    assert 'run/epoch_2.pth instead' in line
    assert not [*Path('run').rglob('*.tmp')]
    assert torch.load('run/epoch_3.pth', weights_only=True)['meta']['iter']
