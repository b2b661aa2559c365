# Copyright (c) MotionMAE contributors. All rights reserved.
"""A training that comes to NaN ends at once, and loses nothing."""

import json
import math
import uuid
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmaction.registry import HOOKS
from mmaction.structures import ActionDataSample
from mmengine.dataset import InfiniteSampler
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Dataset

from mmmotionmae.engine import (
    CheckFiniteHook,
    DeferredRuntimeInfoHook,
    TimedCheckpointHook,
)
from mmmotionmae.engine.hooks import check_finite_hook
from mmmotionmae.engine.not_finite_report import Step, last_steps, name_clips
from mmmotionmae.utils.errors import MMMotionMAEError, NotFiniteError

pytestmark = pytest.mark.filterwarnings(
    'ignore:Detected call of `(lr_)?scheduler.step:UserWarning'
)


class Data(Dataset):
    """20 samples that say which they are."""

    metainfo = {}

    def __len__(self):
        return 20

    def __getitem__(self, index):
        sample = ActionDataSample(
            metainfo=dict(filename=f'{index}.mp4', sample_idx=index)
        )
        generator = torch.Generator().manual_seed(index)
        return torch.randn(4, generator=generator), sample


def collate(samples):
    inputs, data_samples = zip(*samples, strict=True)
    return dict(inputs=torch.stack(inputs), data_samples=list(data_samples))


class Model(BaseModel):
    """Its loss or its gradients can be poisoned."""

    poison = None

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer('bounds', torch.tensor([-math.inf, math.inf]))

    def forward(self, inputs, data_samples, mode='tensor'):
        out = self.layer(inputs)
        if mode == 'predict':
            return list(out)
        loss = (out - inputs.flip(1)).square().mean()
        if self.poison == 'loss':
            loss = loss * math.nan
        elif self.poison in ('gradient', 'late gradient'):
            out.register_hook(lambda grad: grad * math.inf)
            loss = loss + 0 * out.sum()
        return dict(loss_near=loss, score=loss.detach() * math.nan)


class Poison(Hook):
    """Poisons these iterations, counted from 1."""

    def __init__(self, what, *iterations):
        self.what, self.iterations = what, iterations

    def before_train_iter(self, runner, *args, **kwargs):
        is_poisoned = runner.iter + 1 in self.iterations
        runner.model.poison = self.what if is_poisoned else None


class Metric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(error=float(torch.stack(results).square().mean()))


def build(
    *hooks,
    by_epoch=True,
    checkpoint=None,
    wrapper=None,
    load_from=None,
    interval=20,
    epochs=3,
    val=False,
    work_dir='run',
):
    """A run of 3 epochs of 10 iterations of 2 clips, or of 30 iterations."""
    torch.manual_seed(0)
    loader = dict(batch_size=2, dataset=Data(), collate_fn=collate)
    validation = dict(
        val_dataloader=dict(
            loader, sampler=dict(type='DefaultSampler', shuffle=False)
        ),
        val_cfg=dict(),
        val_evaluator=Evaluator(Metric()),
    )
    return Runner(
        model=Model(),
        work_dir=work_dir,
        train_dataloader=dict(
            loader,
            sampler=dict(type='DefaultSampler', shuffle=True)
            if by_epoch
            else dict(type=InfiniteSampler),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs)
        if by_epoch
        else dict(by_epoch=False, max_iters=30, val_interval=8),
        optim_wrapper=wrapper or dict(optimizer=dict(type='AdamW', lr=0.01)),
        default_hooks=dict(
            runtime_info=DeferredRuntimeInfoHook(),
            logger=dict(type='LoggerHook', interval=interval),
            checkpoint=dict(
                dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
                **(checkpoint or {}),
            ),
        ),
        custom_hooks=list(hooks),
        load_from=load_from,
        resume=load_from is not None,
        randomness=dict(seed=0),
        log_level='ERROR',
        # Runs of one second would share a message hub otherwise.
        experiment_name=uuid.uuid4().hex,
        cfg=dict(),
        **(validation if val else {}),
    )


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def checkpoints():
    return sorted(path.name for path in Path('run').glob('*.pth'))


def is_finite(name):
    state = torch.load(f'run/{name}', weights_only=True)['state_dict']
    return all(
        state[f'layer.{n}'].isfinite().all() for n in ('weight', 'bias')
    )


def stopped(runner):
    """The message, and what is in the file."""
    with pytest.raises(NotFiniteError) as caught:
        runner.train()
    (path,) = Path('run').glob('not_finite_iter_*.json')
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)
    return str(caught.value), json.loads(path.read_text())


class Recorder(Hook):
    """The losses, and the videos of each iteration."""

    priority = 'VERY_HIGH'

    def __init__(self):
        self.losses, self.videos = [], []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.losses.append(outputs['loss'].item())
        self.videos.append([s.sample_idx for s in data_batch['data_samples']])


def videos_of(batch):
    assert all(
        clip['filename'] == f'{clip["sample_idx"]}.mp4'
        for clip in batch['clips']
    )
    return [clip['sample_idx'] for clip in batch['clips']]


# ------------------------------------------------------------- what happens


def test_without_the_hook_every_checkpoint_is_lost():
    build(Poison('loss', 12)).train()
    assert checkpoints() == ['epoch_2.pth', 'epoch_3.pth']
    assert not any(map(is_finite, checkpoints()))


def test_loss_of_nan_ends_the_run_and_keeps_the_checkpoints():
    recorder = Recorder()
    message, report = stopped(
        build(Poison('loss', 25), recorder, CheckFiniteHook())
    )
    assert checkpoints() == ['epoch_1.pth', 'epoch_2.pth']
    assert all(map(is_finite, checkpoints()))
    # At the end of the epoch, 5 iterations later, which is before the 20.
    assert len(recorder.losses) == 30
    assert report['iteration'] == 25
    assert message.startswith(
        'loss is nan, loss_near is nan in iteration 25 (epoch 3), so training '
        'stops. The clips of that batch and those before are in '
    )
    good = Path('run/epoch_2.pth').absolute()
    assert f'last good checkpoint is {good}; --resume' in message
    assert report['last_checkpoint'] == str(good)
    assert 'optim_wrapper.clip_grad.max_norm=1' in message
    (process,) = report['processes']
    assert process['rank'] == 0
    # Gradients that nobody knows, and the loss.
    batches = process['batches']
    assert [b['iteration'] for b in batches] == [24, 25]
    assert [videos_of(b) for b in batches] == recorder.videos[23:25]


@pytest.mark.parametrize('interval', [3, 20])
def test_it_is_noticed_within_the_interval(interval):
    recorder = Recorder()
    hook = CheckFiniteHook(interval=interval)
    each = dict(by_epoch=False)
    _, report = stopped(
        build(
            Poison('loss', 2),
            recorder,
            hook,
            by_epoch=False,
            checkpoint=each,
        )
    )
    assert report['iteration'] == 2
    good = Path('run/iter_1.pth').absolute()
    assert report['last_checkpoint'] == str(good)
    # The checkpoint after each iteration asks at once.
    assert len(recorder.losses) == 2 and checkpoints() == ['iter_1.pth']


@pytest.mark.parametrize('interval', [3, 7])
def test_it_looks_every_interval(interval):
    recorder = Recorder()
    never = dict(interval=-1, save_last=False, by_epoch=False)
    hook = CheckFiniteHook(interval=interval)
    stopped(
        build(
            Poison('loss', 2),
            recorder,
            hook,
            by_epoch=False,
            checkpoint=never,
        )
    )
    assert len(recorder.losses) == interval


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
def test_gradients_are_told_from_losses(clip):
    recorder = Recorder()
    wrapper = dict(optimizer=dict(type='AdamW'), clip_grad=clip)
    message, report = stopped(
        build(
            Poison('gradient', 13),
            recorder,
            CheckFiniteHook(),
            wrapper=wrapper,
        )
    )
    (process,) = report['processes']
    iterations = [batch['iteration'] for batch in process['batches']]
    if clip:  # the norm says it at once
        assert 'grad_norm is nan in iteration 13' in message
        assert iterations == [13] and 'clip_grad' not in message
    else:  # the next loss does
        assert 'loss_near is nan in iteration 14' in message
        assert iterations == [13, 14]
    assert videos_of(process['batches'][0]) == recorder.videos[12]
    assert math.isfinite(recorder.losses[12])
    assert checkpoints() == ['epoch_1.pth']


def test_bad_gradients_of_the_last_step_reach_no_checkpoint():
    """No loss comes after them."""
    for iteration, kept in ((20, ['epoch_1.pth']), (30, None)):
        for path in Path('run').glob('*.*'):
            path.unlink()
        message, report = stopped(
            build(Poison('gradient', iteration), CheckFiniteHook())
        )
        assert report['iteration'] == iteration
        assert '6 tensors of the weights and the optimiser hold' in message
        assert checkpoints() == (kept or ['epoch_1.pth', 'epoch_2.pth'])
        assert all(map(is_finite, checkpoints()))


def test_batches_that_are_accumulated_are_suspected_together():
    wrapper = dict(optimizer=dict(type='AdamW'), accumulative_counts=4)
    message, report = stopped(
        build(Poison('gradient', 6), CheckFiniteHook(), wrapper=wrapper)
    )
    # The step is taken with the gradients of 5 to 8.
    assert 'iteration 9' in message
    (process,) = report['processes']
    iterations = [batch['iteration'] for batch in process['batches']]
    assert iterations == [5, 6, 7, 8, 9]


def test_no_best_checkpoint_is_made_of_nan():
    """Validations, too, come between two looks."""
    runner = build(
        Poison('gradient', 8),
        CheckFiniteHook(),
        by_epoch=False,
        val=True,
        checkpoint=dict(
            by_epoch=False, interval=5, save_best='error', rule='less'
        ),
    )
    _, report = stopped(runner)
    assert report['iteration'] == 8
    assert checkpoints() == ['iter_5.pth']


def test_whoever_saves_a_checkpoint_is_stopped():
    class Saver(Hook):
        def after_train_iter(self, runner, batch_idx, **kwargs):
            if runner.iter + 1 in (4, 7):
                runner.save_checkpoint(
                    runner.work_dir, f'at_{runner.iter}.pth'
                )

    stopped(build(Poison('gradient', 6), CheckFiniteHook(), Saver()))
    assert checkpoints() == ['at_3.pth']


def test_the_main_process_saves_alone(monkeypatch):
    """So while it does it must not wait for others; before that all look."""
    save, saving, looks = Runner.save_checkpoint, [], []

    def watched(runner, *args, **kwargs):
        saving.append(runner.iter + 1)
        save(runner, *args, **kwargs)
        saving.pop()

    def gather(finding):
        looks.append(bool(saving))
        return [finding]

    class Saver(Hook):
        def after_train_iter(self, runner, batch_idx, **kwargs):
            if runner.iter + 1 == 4:
                runner.save_checkpoint(runner.work_dir, 'own.pth')

    class Look(Hook):
        def before_interim_checkpoint(self, runner):
            looks.append(f'interim {runner.iter + 1}')

    monkeypatch.setattr(Runner, 'save_checkpoint', watched)
    monkeypatch.setattr(check_finite_hook, 'all_gather_object', gather)
    timed = TimedCheckpointHook(minutes=0, interval=7)
    build(CheckFiniteHook(), Saver(), timed, Look(), epochs=1).train()
    assert 'own.pth' in checkpoints() and looks.count('interim 7') == 1
    # Just before that one, and never while one is written.
    assert looks[looks.index('interim 7') - 1] is False
    assert True not in looks


def test_states_of_the_optimiser_are_looked_at():
    """A second moment of inf stops a weight for ever, without any NaN."""

    class Overflow(Hook):
        def before_train_iter(self, runner, **kwargs):
            if runner.iter == 13:
                state = runner.optim_wrapper.optimizer.state
                next(iter(state.values()))['exp_avg_sq'][0, 0] = math.inf

    message, report = stopped(build(Overflow(), CheckFiniteHook()))
    assert '(exp_avg_sq of parameter 0)' in message
    assert report['iteration'] == 20 and checkpoints() == ['epoch_1.pth']


def test_last_checkpoint_is_one_of_this_run():
    runner = build(Poison('loss', 3), CheckFiniteHook(), epochs=1)
    Path('run').mkdir(exist_ok=True)
    Path('run/last_checkpoint').write_text('run/epoch_9.pth')
    message, _ = stopped(runner)
    assert 'There is no checkpoint of before.' in message


def test_resumed_run_knows_the_checkpoint_where_the_folder_is_now():
    build(epochs=2, work_dir='elsewhere').train()
    Path('elsewhere').rename('run')
    message, report = stopped(
        build(
            Poison('loss', 21), CheckFiniteHook(), load_from='run/epoch_2.pth'
        )
    )
    assert report['iteration'] == 21
    good = Path('run/epoch_2.pth').absolute()
    assert f'last good checkpoint is {good};' in message


# ----------------------------------------------------------- mixed precision


def run_scaled(poison, clip):
    """With the optimiser wrapper that float16 has on a GPU."""
    recorder = Recorder()
    runner = build(poison, recorder, CheckFiniteHook(), epochs=6)
    runner.optim_wrapper = AmpOptimWrapper(
        dtype='bfloat16',
        optimizer=torch.optim.AdamW(runner.model.parameters(), 0.01),
        clip_grad=clip,
    )
    runner.optim_wrapper.loss_scaler = torch.amp.GradScaler('cpu')
    return runner, recorder


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
def test_steps_that_a_loss_scaler_skips_are_no_mistake(clip):
    runner, recorder = run_scaled(Poison('gradient', 1, 2, 13, 20, 60), clip)
    runner.train()
    assert len(recorder.losses) == 60
    assert runner.optim_wrapper.loss_scaler.get_scale() == 65536 / 2**5
    assert is_finite('epoch_6.pth')
    log = runner.message_hub.log_scalars
    norms = log['train/grad_norm'].data[0].tolist() if clip else []
    assert sum(not math.isfinite(norm) for norm in norms) == (5 if clip else 0)


def test_a_scaler_that_can_do_nothing_is_one():
    runner, recorder = run_scaled(Poison('gradient', *range(1, 61)), None)
    message, _ = stopped(runner)
    assert message.startswith('No gradients are finite, whatever the loss sc')
    # 65536 / 2**30 < 1e-4: seen at the end of the third epoch.
    assert len(recorder.losses) == 30


def test_loss_of_nan_is_one_with_a_scaler_too():
    runner, _ = run_scaled(Poison('loss', 5), None)
    assert stopped(runner)[1]['iteration'] == 5


# -------------------------------------------------------------- what it costs


class Waits(TorchDispatchMode):
    """Counts what makes the host wait, by iteration."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()
        self.iteration = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in (
            '_local_scalar_dense',
            'nonzero',
            'masked_select',
        ):
            self.calls[self.iteration] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
def test_nobody_waits_for_the_device_more_often(monkeypatch, clip):
    found = []
    tolist = torch.Tensor.tolist
    for hooks in ([], [CheckFiniteHook(interval=5)]):
        waits, fetches = Waits(), Counter()

        class Clock(Hook):
            priority = 0

            def before_train_iter(self, runner, *args, waits=waits, **kwargs):
                waits.iteration = runner.iter + 1

            def after_train_epoch(self, runner, waits=waits):
                waits.iteration = 0

        def counted(tensor, waits=waits, fetches=fetches):
            if tensor.is_floating_point() and waits.iteration:
                fetches[waits.iteration] += 1
            return tolist(tensor)

        monkeypatch.setattr(torch.Tensor, 'tolist', counted)
        wrapper = dict(
            optimizer=dict(type='AdamW', fused=True), clip_grad=clip
        )
        runner = build(Clock(), *hooks, interval=5, wrapper=wrapper)
        with waits:
            runner.train()
        waits.calls.pop(0, None)
        found.append((waits.calls, fetches))
    assert found[0] == found[1]
    assert [*found[1][1]] == [5, 10, 15, 20, 25, 30]
    assert [*found[1][0]] == [1]  # what the message hub does not know yet


def test_losses_stay_the_same_bit_by_bit():
    runs = []
    for hooks in ([], [CheckFiniteHook(interval=1)]):
        recorder = Recorder()
        runner = build(recorder, *hooks)
        runner.train()
        runs.append((recorder.losses, runner.model.layer.weight.tolist()))
    assert len(runs[0][0]) == 30 and runs[0] == runs[1]


# ------------------------------------------------------------------ its parts


def test_hook_is_in_the_runtime_of_all_configs():
    runtime = Path(__file__).parents[2] / 'configs/_base_/default_runtime.py'
    from mmengine.config import Config

    default_hooks = Config.fromfile(runtime).default_hooks
    hook = HOOKS.build(default_hooks.check_finite)
    assert type(hook) is CheckFiniteHook
    assert hook.interval == default_hooks.logger.interval == 20
    assert hook.priority == 'HIGH' != CheckpointHook.priority
    assert issubclass(NotFiniteError, MMMotionMAEError)


def test_steps_of_the_optimiser_are_counted_back():
    steps = [Step(i, 1, i % 3 == 0, []) for i in range(1, 12)]

    def numbers(end, count):
        return [step.iteration for step in last_steps(steps, end, count)]

    assert numbers(9, 1) == [7, 8, 9]
    assert numbers(8, 1) == [7, 8]
    assert numbers(9, 2) == [4, 5, 6, 7, 8, 9]
    assert numbers(10, 2) == [7, 8, 9, 10]
    assert numbers(2, 5) == [1, 2]


def test_clips_are_named_as_far_as_samples_name_them():
    samples = [
        ActionDataSample(metainfo=dict(filename='a.mp4', img_shape=(2, 2))),
        ActionDataSample(metainfo=dict(frame_dir='b', sample_idx=3)),
    ]
    assert name_clips(dict(data_samples=samples)) == [
        dict(filename='a.mp4'),
        dict(frame_dir='b', sample_idx=3),
    ]
    assert name_clips(dict(data_samples=[ActionDataSample()])) == []
    assert name_clips(dict(inputs=[])) == name_clips([1, 2]) == []


def test_no_clips_are_promised_where_none_are_named(monkeypatch):
    monkeypatch.setattr(check_finite_hook, 'name_clips', lambda batch: [])
    message, _ = stopped(build(Poison('loss', 2), CheckFiniteHook()))
    assert 'not which clips' in message and "meta_keys=('filename'" in message


def test_optim_wrappers_have_what_is_read_of_them():
    """They are private, and read with a default."""
    wrapper = OptimWrapper(torch.optim.SGD([torch.ones(1)], 0.1), 3)
    assert wrapper._accumulative_counts == 3
    assert not wrapper.clip_grad_kwargs and wrapper.should_update()
    amp = AmpOptimWrapper(dtype='bfloat16', optimizer=wrapper.optimizer)
    assert amp._scale_update_param is None
    assert not amp.loss_scaler.is_enabled()
    assert str(amp.cast_dtype) == 'torch.bfloat16'
