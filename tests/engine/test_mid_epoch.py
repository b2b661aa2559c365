# Copyright (c) MotionMAE contributors. All rights reserved.
"""Runs that end inside an epoch, or inside an accumulation, and go on."""

import copy
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.fake_clock import FakeClock
from helpers.processes import HUNG, hang, running, wait_until
from helpers.resumed_runs import (
    FINETUNE,
    PRETRAIN,
    Recorder,
    differences,
    state_of,
)
from mmaction.registry import DATASETS
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from torch import nn
from torch.utils.data import DataLoader

from mmmotionmae.compat import end_process
from mmmotionmae.datasets import RobustVideoDataset
from mmmotionmae.engine import (
    SeededSampler,
    SkippingBatchSampler,
    TimedCheckpointHook,
)
from mmmotionmae.engine.loops import resumable_train_loops
from mmmotionmae.engine.resuming.agreement import Agreement
from mmmotionmae.engine.resuming.signals import SignalWatch, WorkerShield
from mmmotionmae.utils.errors import Preemption

# 32 videos, 8 batches of 4 an epoch.
BY_ITER = [
    'train_cfg._delete_=True',
    'train_cfg.type=ResumableIterLoop',
    'train_cfg.max_iters=20',
    'default_hooks.checkpoint.by_epoch=False',
    'log_processor.by_epoch=False',
    # Counted in iterations.
    'param_scheduler.0.convert_to_iter_based=False',
    'param_scheduler.0.by_epoch=False',
    'param_scheduler.0.end=4',
    'param_scheduler.1.convert_to_iter_based=False',
    'param_scheduler.1.by_epoch=False',
    'param_scheduler.1.begin=4',
    'param_scheduler.1.end=20',
]
OPTIONS = dict(
    epochs=['default_hooks.checkpoint.interval=10'],
    iterations=[*BY_ITER, 'default_hooks.checkpoint.interval=100'],
)


class Signal(Hook):
    """Sends this process a signal while it is in an iteration."""

    def __init__(self, *iterations, number=signal.SIGTERM):
        self.iterations, self.number = iterations, number

    def before_train_iter(self, runner, batch_idx, data_batch):
        if runner.iter in self.iterations:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def loaded():
    """Names of all videos that are loaded, in order."""
    names = []

    @DATASETS.register_module()
    class NotingDataset(RobustVideoDataset):
        def prepare_data(self, idx):
            names.append(Path(self.name_of(idx)).name)
            return super().prepare_data(idx)

    return names


NOTING = 'train_dataloader.dataset.type=NotingDataset'


@pytest.mark.parametrize('loop', OPTIONS)
def test_signals_cost_no_step_and_no_video(train, loaded, loop):
    """At any step, also the last of an epoch, and the first after it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever was before
    epochs = 3 if loop == 'epochs' else 0
    options = [*OPTIONS[loop], NOTING]
    reference = Recorder()
    whole = train(
        PRETRAIN, 'whole', epochs=epochs, options=options, hooks=[reference]
    )
    videos = loaded[:]
    loaded.clear()

    losses = []
    for number, last in (
        (signal.SIGTERM, 2),
        (signal.SIGUSR1, 7),
        (signal.SIGTERM, 8),
        (signal.SIGUSR1, 12),
    ):
        recorder = Recorder()
        with pytest.raises(Preemption) as ended:
            train(
                PRETRAIN,
                'run',
                '--resume',
                epochs=epochs,
                options=options,
                hooks=[recorder, Signal(last, number=number)],
            )
        assert ended.value.code == 85
        name = f'interim_iter_{last + 1}.pth'
        assert Path('run/last_checkpoint').read_text() == name
        losses += recorder.losses
        assert len(losses) == last + 1
    assert len([*Path('run').glob('interim_*')]) == 2
    recorder = Recorder()
    resumed = train(
        PRETRAIN,
        'run',
        '--resume',
        epochs=epochs,
        options=options,
        hooks=[recorder],
    )
    losses += recorder.losses
    assert losses == reference.losses
    assert loaded == videos
    assert differences(state_of(whole), state_of(resumed)) == []
    assert not [*Path('run').glob('interim_*')]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # given back


def test_epochs_are_those_of_mmengine(train):
    """Without interruption: the same batches, the same weights."""
    ours = train(PRETRAIN, 'ours')
    stock = ['train_cfg.type=EpochBasedTrainLoop']
    theirs = train(PRETRAIN, 'theirs', options=stock)
    assert differences(state_of(ours), state_of(theirs)) == []


def test_iterations_are_those_of_mmengine(train, loaded):
    """The same videos, masks and learning rates.

    MMEngine's loop makes an iterator, which draws a number, before the first
    weights are drawn; these differ.
    """
    runs = []
    for kind in ('ResumableIterLoop', 'IterBasedTrainLoop'):
        recorder = Recorder()
        options = [*BY_ITER, NOTING, f'train_cfg.type={kind}']
        runner = train(
            PRETRAIN, kind, epochs=0, options=options, hooks=[recorder]
        )
        masks = torch.cat(
            [
                sample.mask
                for _, batch in recorder.batches
                for sample in batch['data_samples']
            ]
        )
        runs.append((loaded[:], masks, state_of(runner)))
        loaded.clear()
    ours, theirs = runs
    assert ours[0] == theirs[0] and len({*ours[0][:32]}) == 32
    assert torch.equal(ours[1], theirs[1])
    assert not any('lr' in n for n in differences(ours[2], theirs[2]))


def test_checkpoints_by_iteration_inside_an_epoch(train):
    options = [
        'default_hooks.checkpoint.by_epoch=False',
        'default_hooks.checkpoint.interval=6',
        'default_hooks.checkpoint.max_keep_ckpts=-1',
    ]
    whole = train(PRETRAIN, 'run', epochs=2, options=options)
    recorder = Recorder()
    resumed = train(
        PRETRAIN,
        'run',
        '--resume',
        'run/iter_6.pth',
        epochs=2,
        options=options,
        hooks=[recorder],
    )
    assert len(recorder.losses) == 10 and resumed.iter == 16
    assert differences(state_of(whole), state_of(resumed)) == []


def test_signal_in_the_last_validation(train):
    """Two checkpoints of the end are there; the regular one stays."""

    class Late(Hook):
        def before_val_epoch(self, runner):
            os.kill(os.getpid(), signal.SIGTERM)

    how = dict(validate=True, options=['train_cfg.val_interval=2'])
    with pytest.raises(Preemption):
        train(FINETUNE, 'run', hooks=[Late()], **how)

    def checkpoints():
        return sorted(path.name for path in Path('run').glob('*_*.pth'))

    whole = ['epoch_1.pth', 'epoch_2.pth']
    (interim,) = {*checkpoints()} - {*whole}
    assert interim.startswith('interim_iter_')
    train(FINETUNE, 'run', '--resume', **how)
    assert Path(Path('run/last_checkpoint').read_text()).name == whole[1]
    assert checkpoints() == whole


# -------------------------------------------------------------- accumulation


@pytest.mark.parametrize('loop', OPTIONS)
def test_accumulation_waits_for_its_end(train, loop):
    """A signal in the second of three batches: saved after the third."""
    epochs = 2 if loop == 'epochs' else 0
    options = [*OPTIONS[loop], 'optim_wrapper.accumulative_counts=3']
    whole = train(PRETRAIN, 'whole', epochs=epochs, options=options)
    with pytest.raises(Preemption):
        train(
            PRETRAIN, 'run', epochs=epochs, options=options, hooks=[Signal(4)]
        )
    assert Path('run/last_checkpoint').read_text() == 'interim_iter_6.pth'
    resumed = train(
        PRETRAIN, 'run', '--resume', epochs=epochs, options=options
    )
    assert differences(state_of(whole), state_of(resumed)) == []


@pytest.mark.parametrize(
    ('loop', 'saved'),
    [
        ('epochs', 'iter_4.pth'),
        ('epochs', 'iter_8.pth'),  # the end of an epoch
        ('iterations', 'iter_8.pth'),
    ],
)
def test_checkpoint_inside_an_accumulation(train, loop, saved):
    """The batches whose gradients are lost are computed again."""
    epochs = 2 if loop == 'epochs' else 0
    options = [
        *OPTIONS[loop],
        'optim_wrapper.accumulative_counts=3',
        'default_hooks.checkpoint.by_epoch=False',
        'default_hooks.checkpoint.interval=4',
        'default_hooks.checkpoint.max_keep_ckpts=-1',
    ]
    whole = train(PRETRAIN, 'run', epochs=epochs, options=options)
    resumed = train(
        PRETRAIN,
        'run',
        '--resume',
        f'run/{saved}',
        epochs=epochs,
        options=options,
    )
    assert differences(state_of(whole), state_of(resumed)) == []


class FakeRunner:
    def __init__(self, wrapper):
        self.optim_wrapper = wrapper


def test_accumulation_ends_with_the_epoch():
    """Two epochs of 4 batches in steps of 3: 3 + 1, 3 + 1.

    A naive loop: mean of the losses of each step, plain SGD.
    """
    inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(5, 1)
    naive = copy.deepcopy(model)
    wrapper = OptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=3
    )
    for epoch in range(2):
        resumable_train_loops._count_batches(FakeRunner(wrapper), 0, 4)
        for x in inputs[4 * epoch : 4 * epoch + 4]:
            wrapper.update_params(model(x).square().sum())
        assert wrapper.should_update()

    for step in ([0, 1, 2], [3], [4, 5, 6], [7]):
        loss = torch.stack([naive(inputs[i]).square().sum() for i in step])
        gradients = torch.autograd.grad(loss.mean(), [*naive.parameters()])
        with torch.no_grad():
            for weight, gradient in zip(
                naive.parameters(), gradients, strict=True
            ):
                weight -= 0.1 * gradient
    torch.testing.assert_close(
        model.weight, naive.weight, rtol=1e-6, atol=1e-7
    )


def test_nothing_is_pending_after_an_epoch(train):
    options = [
        'optim_wrapper.accumulative_counts=3',
        'default_hooks.checkpoint.interval=1',
    ]
    whole = train(PRETRAIN, 'run', epochs=2, options=options)
    resumed = train(
        PRETRAIN,
        'run',
        '--resume',
        'run/epoch_1.pth',
        epochs=2,
        options=options,
    )
    assert differences(state_of(whole), state_of(resumed)) == []


# -------------------------------------------------------------------- loaders


@pytest.mark.parametrize('workers', [0, 2])
def test_skipped_batches_are_not_loaded(workers):
    data = [*range(40)]

    def load(done):
        loader = DataLoader(
            data,
            batch_size=4,
            drop_last=True,
            sampler=SeededSampler(data, seed=0),
            num_workers=workers,
            collate_fn=list,
            persistent_workers=workers > 0,
        )
        batches = SkippingBatchSampler.of(loader)
        assert SkippingBatchSampler.of(loader) is batches
        assert len(loader) == 10 and batches.batch_size == 4
        batches.done = done
        epochs = [[*loader], [*loader]]
        if workers:
            loader._iterator._shutdown_workers()
        return epochs

    first, second = load(0)
    assert first == second and len(first) == 10
    assert load(7) == [first[7:], second]


# --------------------------------------------------------------- validation


class SignalInValidation(Hook):
    def after_val_iter(self, runner, batch_idx, data_batch, outputs):
        if batch_idx == 0:
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize('averaged', [False, True])
def test_signal_in_a_validation(train, averaged):
    """It starts anew; with averaged weights in place it is ended first."""
    options = [
        'train_cfg.val_interval=1',
        'default_hooks.checkpoint.interval=10',
        'val_dataloader.batch_size=8',
    ]

    def average():
        return [EMAHook()] if averaged else []

    class Seen(Hook):
        def __init__(self):
            self.scores = []

        def after_val_epoch(self, runner, metrics):
            self.scores.append((runner.epoch, metrics['acc/top1']))

    whole, seen, again = Seen(), Seen(), Seen()
    reference = train(
        FINETUNE,
        'whole',
        hooks=[whole, *average()],
        options=options,
        validate=True,
    )
    with pytest.raises(Preemption):
        train(
            FINETUNE,
            'run',
            hooks=[SignalInValidation(), seen, *average()],
            options=options,
            validate=True,
        )
    assert len(seen.scores) == averaged
    resumed = train(
        FINETUNE,
        'run',
        '--resume',
        hooks=[again, *average()],
        options=options,
        validate=True,
    )
    assert seen.scores + again.scores == whole.scores
    assert differences(state_of(reference), state_of(resumed)) == []


# -------------------------------------------------------------------- signals


def test_second_signal_ends_at_once():
    clock, killed = FakeClock(), []
    watch = SignalWatch(['SIGUSR1'], seconds=5, clock=clock)
    # What is in place before is what ends the process.
    signal.signal(signal.SIGUSR1, lambda number, frame: killed.append(number))
    watch.start()
    for seconds in (0, 1, 3.9):  # a group, its leader, a launcher
        clock.advance(seconds)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert watch.received == 'SIGUSR1'
    watch.stop()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert killed == [signal.SIGUSR1]

    child = os.fork()
    if child == 0:  # pragma: no cover
        watch.start()
        clock.advance(5.1)
        os.kill(os.getpid(), signal.SIGUSR1)
        os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGUSR1


def test_exit_code(train, monkeypatch, shapes_dir):
    from helpers.resumed_runs import TRAIN

    argv = ['train.py', str(PRETRAIN), '--work-dir', 'run', '--cfg-options']
    argv += ['train_dataloader.batch_size=8', 'log_level=ERROR']
    monkeypatch.setattr(sys, 'argv', argv)
    train_tool = TRAIN.train
    monkeypatch.setattr(TRAIN, 'train', lambda a: train_tool(a, [Signal(1)]))
    note = Path('note')
    monkeypatch.setenv('MOTIONMAE_PREEMPTION_NOTE', str(note))
    assert TRAIN.main() == 85
    assert note.read_text().endswith('run/interim_iter_2.pth\n')


class GroupSignal(Hook):
    """As launchers do: to the run and to the processes of its loader."""

    def before_train_iter(self, runner, batch_idx, data_batch):
        if runner.iter == 2:
            for worker in runner.train_dataloader._iterator._workers:
                os.kill(worker.pid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)


def test_loaders_outlive_the_first_signal(train):
    whole = train(PRETRAIN, 'whole', epochs=1)
    with pytest.raises(Preemption):
        train(PRETRAIN, 'run', epochs=1, workers=2, hooks=[GroupSignal()])
    assert Path('run/last_checkpoint').read_text() == 'interim_iter_3.pth'
    resumed = train(PRETRAIN, 'run', '--resume', epochs=1, workers=2)
    assert differences(state_of(whole), state_of(resumed)) == []


@pytest.mark.parametrize('stuck', [False, True])
def test_loaders_end_with_their_parent(tmp_path, stuck):
    """Though covered, and though they are in the middle of something."""
    child = os.fork()
    if child == 0:  # pragma: no cover
        data = [*range(8)]
        loader = DataLoader(
            data,
            num_workers=2,
            persistent_workers=True,
            worker_init_fn=lambda i: (tmp_path / f'{os.getpid()}').touch(),
            collate_fn=(lambda x: hang()) if stuck else None,
        )
        shield = WorkerShield()
        shield.cover(loader)
        batches = iter(loader)
        if not stuck:
            next(batches)
        wait_until(lambda: len([*tmp_path.iterdir()]) == 2)
        end_process(3)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    pids = [int(path.name) for path in tmp_path.iterdir()]
    wait_until(lambda: not any(map(running, pids)))


# ------------------------------------------------------ checkpoints by minutes


def test_signals_of_a_run_that_an_error_ended():
    """Its watch was never stopped: the next one gives them back for both."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever was before
    left, watch = (SignalWatch(['SIGTERM'], 5) for _ in range(2))
    left.start()
    watch.start()
    watch.stop()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_checkpoints_by_minutes(train):
    """Ten minutes a batch, a checkpoint every 25, of 8 an epoch."""
    clock = FakeClock()

    class Slow(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch):
            clock.advance(600)
            if runner.iter == 15:  # of a run that was killed while it wrote it
                Path('run/interim_iter_2.pth').touch()

    class Names(Hook):
        priority = 'LOWEST'

        def __init__(self):
            self.names = []

        def after_train_iter(self, runner, batch_idx, **kwargs):
            last = Path('run/last_checkpoint')
            self.names.append(last.read_text() if last.exists() else None)

    names = Names()
    hook = TimedCheckpointHook(minutes=25, interval=1, clock=clock)
    train(
        PRETRAIN,
        'run',
        epochs=2,
        hooks=[Slow(), hook, names],
    )
    numbers = [
        name and int(''.join(filter(str.isdigit, name)))
        for name in names.names
    ]
    # The checkpoint of the first epoch starts the clock anew.
    assert numbers == [
        *(None, None, 3, 3, 3, 6, 6, 6),
        *(1, 1, 11, 11, 11, 14, 14, 14),
    ]
    assert sorted(p.name for p in Path('run').glob('*_*.pth')) == [
        'epoch_1.pth',
        'epoch_2.pth',
    ]


# ---------------------------------------------------------------- processes


def agree(rank, address, folder):
    """The second of two processes asks at its third step."""
    dist.init_process_group(
        'gloo', init_method=f'file://{address}', rank=rank, world_size=2
    )
    agreement = Agreement(timeout=HUNG)
    answers = [agreement.ask(rank == 1 and i == 2) for i in range(4)]
    last = agreement.settle()
    Path(folder, f'{rank}').write_text(f'{answers} {last}')
    dist.barrier()
    dist.destroy_process_group()


def test_processes_learn_at_the_same_step(tmp_path):
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:  # pragma: no cover
            code = 1
            try:
                agree(rank, tmp_path / 'address', tmp_path)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    expected = '[False, False, False, True] False'
    assert (tmp_path / '0').read_text() == expected
    assert (tmp_path / '1').read_text() == expected


def test_one_process_knows_at_once():
    agreement = Agreement()
    assert [agreement.ask(wish) for wish in (False, True)] == [False, True]
    assert agreement.settle() is False
