# Copyright (c) MotionMAE contributors. All rights reserved.
"""Losses are fetched when somebody reads them, and are what MMEngine logs."""

import copy
import json
import pickle
import uuid
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import as_batch, tube_mask
from mmaction.registry import HOOKS, OPTIM_WRAPPERS
from mmengine.dataset import InfiniteSampler
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook, RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

from mmmotionmae.engine import DeferredRuntimeInfoHook

# It is called although gradients are still being accumulated.
pytestmark = pytest.mark.filterwarnings(
    'ignore:Detected call of `scheduler.step:UserWarning'
)
STOCK, DEFERRED = RuntimeInfoHook, DeferredRuntimeInfoHook
# What makes the host wait for the device: `item`, `float`, `bool`, `int`;
# indexing by a mask.
SYNCS = ('_local_scalar_dense', 'nonzero', 'masked_select')
TIMES = ('time', 'data_time', 'memory')


class SyncCounter(TorchDispatchMode):
    """Counts the operations that make the host wait."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in SYNCS:
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))


class Data(Dataset):
    metainfo = {}

    def __init__(self, size):
        generator = torch.Generator().manual_seed(size)
        self.x = torch.randn(size, 4, generator=generator)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index]


class Model(BaseModel):
    """Two losses and a score, of which the score is not always there."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs, mode='tensor'):
        error = (self.layer(inputs) - inputs.flip(1)).square()
        if mode == 'predict':
            return list(error.mean(1))
        scores = dict(loss_near=error[:, :2].mean(), loss_far=[error[:, 2:]])
        with torch.no_grad():
            scores['worst'] = error.max()
            scores['half'] = error.mean().bfloat16()
            if len(inputs) == 2:
                scores['rare'] = error.min()
        return scores


class Metric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(error=torch.stack(results).mean())


def collate(samples):
    return dict(inputs=torch.stack(samples))


class Interruption(Hook):
    priority = 'LOWEST'

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, **kwargs):
        if runner.iter == self.iteration:
            raise KeyboardInterrupt


def build(hook, work_dir, loop='epoch', resume=False, interval=3, hooks=()):
    """A run of 4 epochs of 5 iterations, or of 20 iterations."""
    torch.manual_seed(0)
    epochs = loop == 'epoch'
    loader = dict(batch_size=4, collate_fn=collate)
    return Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            loader,
            dataset=Data(18),  # the last batch of an epoch has 2
            sampler=dict(type='DefaultSampler', shuffle=True)
            if epochs
            else dict(type=InfiniteSampler),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1)
        if epochs
        else dict(by_epoch=False, max_iters=20, val_interval=7),
        val_dataloader=dict(
            loader,
            dataset=Data(6),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        val_cfg=dict(),
        val_evaluator=Evaluator(Metric()),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
            clip_grad=dict(max_norm=0.5),
            accumulative_counts=2,
        ),
        param_scheduler=dict(type='CosineAnnealingLR', by_epoch=False),
        default_hooks=dict(
            runtime_info=hook,
            logger=dict(
                type='LoggerHook', interval=interval, ignore_last=False
            ),
            checkpoint=dict(
                type='CheckpointHook',
                by_epoch=epochs,
                interval=1 if epochs else 4,
            ),
        ),
        custom_hooks=list(hooks),
        log_processor=dict(
            window_size=4,
            by_epoch=epochs,
            custom_cfg=[
                dict(
                    data_src='loss',
                    log_name='highest',
                    method_name='max',
                    window_size='global',
                )
            ],
        ),
        resume=resume,
        randomness=dict(seed=0),
        log_level='ERROR',
        # Runs of one second would share a message hub otherwise.
        experiment_name=uuid.uuid4().hex,
        cfg=dict(),
    )


def logged(work_dir):
    """All that was logged, without times."""
    lines = [
        json.loads(line)
        for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    for line in lines:
        for name in TIMES:
            line.pop(name, None)
    return [list(line.items()) for line in lines]  # in order


def histories(path):
    """The message hub in a checkpoint, without the values of times."""
    hub = torch.load(path, weights_only=True)['message_hub']
    found = []
    for key, history in hub['log_scalars'].items():
        log, count = history['log_history'], history['count_history']
        if key.split('/')[1] in TIMES:
            log = torch.zeros(len(log))
        found.append((key, log.dtype, log.tolist(), count.tolist()))
    return found, hub['resumed_keys']


# ------------------------------------------------------------- whole runs


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_logs_and_checkpoints_are_those_of_mmengine(tmp_path, loop):
    for hook in (STOCK, DEFERRED):
        work_dir = tmp_path / hook.__name__
        stop = Interruption(iteration=12)
        with pytest.raises(KeyboardInterrupt):
            build(hook(), work_dir, loop, hooks=[stop]).train()
        resumed = build(hook(), work_dir, loop, resume=True)
        resumed.train()
        assert resumed.iter == 20
    stock, deferred = tmp_path / STOCK.__name__, tmp_path / DEFERRED.__name__

    expected = logged(stock)
    assert logged(deferred) == expected
    names = {name for line in expected for name, _ in line}
    assert names >= {
        'lr',
        'loss',
        'loss_near',
        'loss_far',
        'worst',
        'half',
        'highest',
        'grad_norm',
        'error',
    }
    assert ('rare' in names) == (loop == 'epoch')
    steps = [dict(line)['step'] for line in expected if len(line) > 4]
    if loop == 'epoch':  # 3, and the end of the epoch, 5
        assert steps[:4] == [3, 5, 8, 10]
    else:
        assert steps[:4] == [3, 5, 6, 9]

    files = sorted(path.name for path in stock.glob('*.pth'))
    assert len(files) >= 4
    for name in files:
        one, other = histories(stock / name), histories(deferred / name)
        assert one == other
    (last, _) = histories(
        deferred / ('epoch_4.pth' if loop == 'epoch' else 'iter_20.pth')
    )
    counts = {key: len(log) for key, _, log, _ in last}
    assert counts['train/loss'] == counts['train/time'] == 20
    assert counts['train/grad_norm'] == 10


def test_host_waits_in_no_iteration_but_the_first(tmp_path, monkeypatch):
    waits, fetches = {}, {}
    counter = SyncCounter()
    tolist = torch.Tensor.tolist

    class Start(Hook):
        priority = 0

        def before_train_iter(self, runner, *args, **kwargs):
            counter.calls.clear()
            fetches[hook].append(0)

    class Stop(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, *args, **kwargs):
            waits[hook].append(sum(counter.calls.values()))

    def counted(tensor):
        if tensor.is_floating_point() and fetches[hook]:
            fetches[hook][-1] += 1
        return tolist(tensor)

    monkeypatch.setattr(torch.Tensor, 'tolist', counted)
    for hook in (STOCK, DEFERRED):
        waits[hook], fetches[hook] = [], []
        runner = build(
            hook(),
            tmp_path / hook.__name__,
            interval=4,
            hooks=[Start(), Stop()],
        )
        with counter:
            runner.train()

    # loss, loss_near, loss_far, worst, half; grad_norm and rare at times
    assert waits[STOCK][:6] == [5, 6, 5, 6, 6, 6]
    # What the message hub does not know yet: five keys, grad_norm, rare.
    assert waits[DEFERRED] == [5, 1, 0, 0, 1] + 15 * [0]
    # One for float32 and one for bfloat16, where LoggerHook logs.
    # (At the end of an epoch its checkpoint has nothing left to fetch.)
    assert fetches[DEFERRED] == 4 * [0, 0, 0, 2, 2]
    assert not any(fetches[STOCK])


def test_any_hook_reads_the_latest_values(tmp_path):
    class Reader(Hook):
        priority = 'NORMAL'

        def __init__(self):
            self.seen = []

        def after_train_iter(self, runner, *args, outputs, **kwargs):
            history = runner.message_hub.get_scalar('train/loss')
            self.seen.append((history.current(), len(history.data[0])))
            assert history.current() == outputs['loss'].item()

    readers = Reader(), Reader()
    for hook, reader in zip((STOCK(), DEFERRED()), readers, strict=True):
        build(hook, tmp_path / str(id(reader)), hooks=[reader]).train()
    assert readers[0].seen == readers[1].seen
    assert [count for _, count in readers[1].seen] == [*range(1, 21)]


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_timer_counts_the_wait_as_time_of_the_iteration(tmp_path, loop):
    """Not as time of the data loader, which it would be after the timer."""
    pending = []

    class BeforeTimer(Hook):
        priority = 'ABOVE_NORMAL'

        def after_train_iter(self, runner, *args, **kwargs):
            pending.append(len(hook.pending))

    hook = DEFERRED()
    build(hook, tmp_path, loop, interval=4, hooks=[BeforeTimer()]).train()
    waits = [i for i, count in enumerate(pending, 1) if count == 0]
    if loop == 'epoch':  # of 5 iterations
        assert waits == [1, 4, 5, 9, 10, 14, 15, 19, 20]
    else:
        assert waits == [1, 4, 5, 8, 12, 16, 20]


def test_nothing_is_left_after_training(tmp_path):
    hook = DEFERRED()
    runner = build(hook, tmp_path, interval=1000)
    runner.train()
    assert hook.pending == []
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 20


# ---------------------------------------------------------------- the hook


def fake_runner():
    hub = MessageHub.get_instance(uuid.uuid4().hex)
    loader = DataLoader(Data(100))
    return SimpleNamespace(message_hub=hub, train_dataloader=loader, hooks=[])


@pytest.fixture
def runner():
    return fake_runner()


def record(hook, runner, **outputs):
    hook.after_train_iter(runner, batch_idx=0, outputs=outputs)


def test_hook_is_registered():
    hook = HOOKS.build(dict(type='DeferredRuntimeInfoHook', max_pending=5))
    assert type(hook) is DEFERRED and hook.max_pending == 5
    assert hook.priority == STOCK.priority


def test_every_kind_of_scalar_is_kept_as_mmengine_keeps_it():
    runners = [fake_runner() for _ in range(2)]
    for hook, runner in zip((STOCK(), DEFERRED()), runners, strict=True):
        for i in range(4):
            record(
                hook,
                runner,
                single=torch.tensor(1 / (i + 3)),
                double=torch.tensor(1 / (i + 3), dtype=torch.float64),
                half=torch.tensor([[1 / (i + 3)]], dtype=torch.bfloat16),
                integer=torch.tensor(2**60 + i),
                truth=torch.tensor(i % 2 == 0),
                nan=torch.tensor(float('nan' if i % 2 else '-inf')),
                number=i / 7,
                changing=i / 7 if i % 2 else torch.tensor(i / 7),
                whole=torch.tensor(i) if i < 2 else torch.tensor(i / 7),
            )
    one, other = (runner.message_hub.state_dict() for runner in runners)
    assert list(one['log_scalars']) == list(other['log_scalars'])
    assert one['resumed_keys'] == other['resumed_keys']
    for key, history in one['log_scalars'].items():
        for a, b in zip(
            history.data, other['log_scalars'][key].data, strict=True
        ):
            assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), key


def test_copies_and_pickles_are_plain(runner):
    hook = DEFERRED()
    for value in (1.0, 2.0, 4.0):
        record(hook, runner, loss=torch.tensor(value))
    history = runner.message_hub.log_scalars['train/loss']
    assert isinstance(history, HistoryBuffer) and hook.pending
    history.max_length = 3
    for plain in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert type(plain) is HistoryBuffer
        assert plain.data[0].tolist() == [1, 2, 4]
        assert plain.data[1].tolist() == [1, 1, 1]
        assert plain.max_length == 3
    assert not hook.pending
    record(hook, runner, loss=torch.tensor(8.0))  # the oldest gives way
    assert history.data[0].tolist() == [2, 4, 8]
    assert plain.data[0].tolist() == [1, 2, 4]


def test_window_counts_what_is_on_its_way(runner):
    hook = DEFERRED()
    for value in range(1, 11):
        record(hook, runner, loss=torch.tensor(float(value)))
        if value == 6:
            assert runner.message_hub.get_scalar('train/loss').mean(4) == 4.5
    history = runner.message_hub.get_scalar('train/loss')
    assert history.statistics('mean', 4) == 8.5
    assert history.max() == 10 and history.min() == 1
    # Somebody else adds to it: the order stays.
    record(hook, runner, loss=torch.tensor(11.0))
    runner.message_hub.update_scalar('train/loss', 12.0, count=2)
    assert history.data[0][-3:].tolist() == [10, 11, 12]
    assert history.data[1][-3:].tolist() == [1, 1, 2]


def test_pending_values_are_bounded(runner):
    hook = DEFERRED(max_pending=4)
    pending = []
    for i in range(10):
        record(hook, runner, loss=torch.tensor(float(i)))
        pending.append(len(hook.pending))
    # The first is recorded at once, after that every fourth delivers.
    assert pending == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    history = runner.message_hub.get_scalar('train/loss')
    assert history.data[0].tolist() == [*range(10)]


def test_pending_values_keep_neither_graph_nor_storage(runner):
    hook = DEFERRED()
    weight = torch.ones((), requires_grad=True)
    total = torch.zeros(())
    for i in range(3):
        total.fill_(i)  # in place, after it was handed over
        record(hook, runner, loss=weight * i, total=total)
    (_, values) = hook.pending[-1]
    assert not values.requires_grad
    total.fill_(100)
    for key in ('train/loss', 'train/total'):
        history = runner.message_hub.get_scalar(key)
        assert history.data[0].tolist() == [0, 1, 2]


def test_histories_that_are_resumed_are_continued(runner):
    hook = DEFERRED()
    for value in (1.0, 2.0):
        record(hook, runner, loss=torch.tensor(value))
    state = copy.deepcopy(runner.message_hub.state_dict())
    record(hook, runner, loss=torch.tensor(5.0))  # lost, as with MMEngine
    runner.message_hub.load_state_dict(state)
    record(hook, runner, loss=torch.tensor(3.0))
    history = runner.message_hub.get_scalar('train/loss')
    assert history.data[0].tolist() == [1, 2, 3]


def test_more_than_a_scalar_is_refused(runner):
    hook = DEFERRED()
    record(hook, runner, loss=torch.tensor(1.0))
    with pytest.raises(RuntimeError, match='shape'):
        record(hook, runner, loss=torch.ones(2))


@pytest.mark.parametrize('kind', ['norm', 'value'])
def test_gradients_are_clipped_as_without_the_hook(kind, runner):
    """Also those of several optimisers."""
    clip = dict(
        norm=dict(max_norm=0.1), value=dict(type='value', clip_value=0.1)
    )[kind]

    def wrapped(weight):
        wrapper = OptimWrapper(torch.optim.SGD([weight], 1.0), 1, dict(clip))
        wrapper.message_hub = runner.message_hub
        return wrapper

    weights = [torch.ones(3, requires_grad=True) for _ in range(3)]
    alone, *two = map(wrapped, weights)
    hook = DEFERRED()
    both = OptimWrapperDict(a=two[0], b=two[1])
    runner.epoch = runner.iter = runner.max_epochs = runner.max_iters = 0
    runner.optim_wrapper = both
    hook.before_train(runner)
    for _ in range(3):
        for weight, wrapper in zip(weights, (alone, *two), strict=True):
            wrapper.update_params((weight.square() * 3).sum())
    assert weights[0].tolist() == weights[1].tolist() == weights[2].tolist()
    assert weights[0].tolist() != [1, 1, 1]
    scalars = runner.message_hub.log_scalars
    if kind == 'value':
        assert not scalars
    else:
        log = scalars['train/grad_norm'].data[0].reshape(3, 3)
        assert (log == log[:, :1]).all() and (log[:, 0] > 9).all()


def test_optimiser_that_clips_by_itself_is_left_alone():
    wrapper = SimpleNamespace()  # DeepSpeedOptimWrapper has no `clip_func`
    DEFERRED()._defer_grad_norm(wrapper)
    assert not vars(wrapper)


# ------------------------------------------------------------------ MotionMAE


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_host_waits_nowhere_in_a_step_of_motionmae(
    tiny_model, runner, precision
):
    """From what the data preprocessor returns to the end of the step."""
    model = tiny_model()
    amp = dict(
        type='AmpOptimWrapper',
        dtype='bfloat16',
        loss_scale=dict(enabled=False),
    )
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            amp if precision == 'bfloat16' else dict(type='OptimWrapper'),
            # The steps that other AdamW count are on the CPU anyhow.
            optimizer=torch.optim.AdamW(model.parameters(), fused=True),
            clip_grad=dict(max_norm=1.0),
        )
    )
    wrapper.message_hub = runner.message_hub
    hook = DEFERRED()
    hook._defer_grad_norm(wrapper)
    frames = torch.randint(0, 256, (2, 3, 8, 32, 32), dtype=torch.uint8)
    counter = SyncCounter()
    model.data_preprocessor.register_forward_hook(
        lambda *args: counter.calls.clear()
    )
    for step in range(3):
        with counter:
            outputs = model.train_step(as_batch(frames, tube_mask()), wrapper)
            hook.after_train_iter(runner, step, outputs=outputs)
        if step:  # in the first the message hub knows no key
            assert counter.calls == {}
    log = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(log) == 3 and log[2] == outputs['loss'].item()
    assert len(runner.message_hub.get_scalar('train/grad_norm').data[0]) == 3
