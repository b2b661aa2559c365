# Copyright (c) MotionMAE contributors. All rights reserved.
"""MMEngine's `FlexibleRunner` gives what its `Runner` gives."""

import importlib.util
import pickle
import uuid
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from mmengine.hooks import Hook

from mmmotionmae.checkpoints import CheckpointError
from mmmotionmae.utils.errors import UsageError

DEMO = ROOT / 'configs/demo'
PRETRAIN = DEMO / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'
FINETUNE = DEMO / 'vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py'
FLEXIBLE = 'runner_type=FlexibleRunner'


def load_tool(name):
    spec = importlib.util.spec_from_file_location(
        f'{name}_tool', ROOT / 'tools' / f'{name}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRAIN, TEST = load_tool('train'), load_tool('test')


class Losses(Hook):
    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.values.append(outputs['loss'].item())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('runs')


@pytest.fixture(autouse=True)
def _in_that_folder(folder, monkeypatch, shapes_dir):
    monkeypatch.setenv('DEMO_DATA', str(shapes_dir))
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(folder)


def options_of(*options):
    return [
        '--cfg-options',
        f'experiment_name={uuid.uuid4().hex}',
        'log_level=ERROR',
        *options,
    ]


def train(config, work_dir, *options, epochs=2, flags=()):
    losses = Losses()
    options = options_of(
        f'train_cfg.max_epochs={epochs}',
        'train_dataloader.batch_size=8',
        'default_hooks.checkpoint.interval=1',
        'default_hooks.checkpoint.save_optimizer=True',
        *options,
    )
    argv = [str(config), '--work-dir', work_dir, '--no-validate', *flags]
    TRAIN.train(TRAIN.parse_args(argv + options), [losses])
    return losses.values


def test(checkpoint, *options, dump=None):
    argv = [str(FINETUNE), *([checkpoint] if checkpoint else [])]
    argv += ['--dump', dump, '--overwrite'] if dump else []
    return TEST.test(TEST.parse_args(argv + options_of(*options)))


test.__test__ = False


def state_of(path):
    content = torch.load(path, weights_only=True)
    return {
        name: content[name]
        for name in ('state_dict', 'optimizer', 'param_schedulers')
    }


def flatten(value, path=''):
    if isinstance(value, dict):
        value = value.items()
    elif isinstance(value, (list, tuple)):
        value = enumerate(value)
    else:
        return {path: value}
    flat = {}
    for key, item in value:
        flat |= flatten(item, f'{path}.{key}')
    return flat


def assert_same(path, other):
    one, two = flatten(state_of(path)), flatten(state_of(other))
    assert one.keys() == two.keys() and len(one) > 200
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, two[name]), name
        else:
            assert value == two[name], name


@pytest.fixture(scope='module')
def plain(folder, shapes_dir):
    """Pre-training by `Runner`: its losses; the work dir is `plain`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('DEMO_DATA', str(shapes_dir))
        patch.setenv('LOCAL_RANK', '0')
        patch.chdir(folder)
        return train(PRETRAIN, 'plain')


def test_training_and_resuming(plain):
    losses = train(PRETRAIN, 'whole', FLEXIBLE)
    assert losses == plain and len(losses) == 8
    assert_same('plain/epoch_2.pth', 'whole/epoch_2.pth')

    first = train(PRETRAIN, 'parts', FLEXIBLE, epochs=1)
    # Which config was resumed is of no account: the end is another.
    rest = train(PRETRAIN, 'parts', FLEXIBLE, flags=['--resume'])
    assert first + rest == losses
    assert_same('plain/epoch_2.pth', 'parts/epoch_2.pth')

    # A checkpoint of the one can be resumed by the other.
    flags = ['--resume', 'plain/epoch_1.pth']
    assert train(PRETRAIN, 'other', FLEXIBLE, flags=flags) == losses[4:]
    assert_same('plain/epoch_2.pth', 'other/epoch_2.pth')


class Order(Hook):
    """Notes what comes first."""

    def __init__(self):
        self.calls = []

    def before_run(self, runner):
        self.calls.append('before_run')

    def after_load_checkpoint(self, runner, checkpoint):
        self.calls.append('after_load_checkpoint')


@pytest.mark.parametrize('runner', ['Runner', 'FlexibleRunner'])
def test_hooks_are_set_up_before_a_checkpoint_is_loaded(plain, runner):
    order = Order()
    options = options_of(
        f'runner_type={runner}',
        'train_cfg.max_epochs=2',
        'train_dataloader.batch_size=8',
    )
    argv = [str(PRETRAIN), '--work-dir', f'order-{runner}', '--no-validate']
    argv += ['--resume', 'plain/epoch_2.pth']
    TRAIN.train(TRAIN.parse_args(argv + options), [order])
    assert order.calls == ['before_run', 'after_load_checkpoint']


class Positions(Hook):
    """Saves once more, after the epoch, as for a new best checkpoint."""

    def before_val(self, runner):
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        runner.save_checkpoint(runner.work_dir, 'again.pth', meta=meta)
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        runner.save_checkpoint(
            runner.work_dir, 'best.pth', meta=meta, by_epoch=False
        )


@pytest.mark.parametrize('runner', ['Runner', 'FlexibleRunner'])
def test_positions_are_those_given(plain, runner):
    options = options_of(
        f'runner_type={runner}',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'train_dataloader.batch_size=8',
    )
    argv = [str(FINETUNE), '--work-dir', f'positions-{runner}']
    TRAIN.train(TRAIN.parse_args(argv + options), [Positions()])
    for name in ('again.pth', 'best.pth'):
        path = Path(f'positions-{runner}', name)
        meta = torch.load(path, weights_only=True)['meta']
        assert (meta['epoch'], meta['iter']) == (1, 2)


def test_fine_tuning_and_testing(plain):
    given = 'load_from=plain/epoch_2.pth'
    options = [given, FLEXIBLE]
    losses = train(FINETUNE, 'finetuned', given, epochs=1)
    assert train(FINETUNE, 'flexible', *options, epochs=1) == losses
    assert_same('finetuned/epoch_1.pth', 'flexible/epoch_1.pth')
    # `load_from` has had a part in it.
    assert train(FINETUNE, 'scratch', FLEXIBLE, epochs=1) != losses

    path = 'finetuned/epoch_1.pth'
    expected = test(path, dump='plain.pkl')
    assert test(path, FLEXIBLE, dump='flexible.pkl') == expected
    scores = []
    for name in ('plain.pkl', 'flexible.pkl'):
        results = pickle.loads(Path(name).read_bytes())
        scores.append(torch.stack([r['pred_score'] for r in results]))
    assert scores[0].shape == (16, 8) and torch.equal(*scores)
    # Weights that the config sets up itself.
    named = f'load_from={path}'
    assert test('none', named, FLEXIBLE) == expected
    with pytest.raises(UsageError, match='name a checkpoint, or "none"'):
        test(None, FLEXIBLE)


def test_a_test_starts_from_no_other_weights(plain):
    """`FlexibleRunner` would read `init_cfg` before each test."""
    train(FINETUNE, 'short', FLEXIBLE, epochs=1)
    options = [
        'model.backbone.init_cfg.type=Pretrained',
        'model.backbone.init_cfg.checkpoint=missing.pth',
        FLEXIBLE,
    ]
    expected = test('short/epoch_1.pth')
    assert test('short/epoch_1.pth', *options) == expected
    with pytest.raises(UsageError, match='missing.pth can not be found'):
        test('none', *options)


def test_what_does_not_fit_is_refused_by_name(plain):
    path = 'plain/epoch_2.pth'
    with pytest.raises(CheckpointError, match=f'^{path} does not fit Reco'):
        test(path, FLEXIBLE)
    heads = ['model.backbone.num_heads=8', f'load_from={path}']
    for runner in ('runner_type=Runner', FLEXIBLE):
        with pytest.raises(CheckpointError, match=f'^{path} was trained with'):
            train(FINETUNE, 'heads', *heads, runner, epochs=1)
