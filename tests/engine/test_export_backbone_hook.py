# Copyright (c) MotionMAE contributors. All rights reserved.
"""What lies in backbone.pth is the encoder that was trained, and whose."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from helpers.global_state import isolated
from helpers.processes import HUNG
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import HOOKS, METRICS
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner, load_checkpoint
from safetensors import safe_open

from mmmotionmae.apis import runner as launch
from mmmotionmae.engine import backbone_export as backbone_file
from mmmotionmae.engine.backbone_export import (
    describe_data,
    encoder_tensors,
    write_backbone,
)

DEMO = ROOT / 'configs/demo'
PRETRAIN = DEMO / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'
FINETUNE = DEMO / 'vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py'
SAFE = 'safetensors'
SMALL = {
    'model.backbone.embed_dims': 16,
    'model.backbone.depth': 2,
    'model.backbone.num_heads': 2,
}


@METRICS.register_module()
class GivenScores(BaseMetric):
    """The scores of each validation, whatever the model does."""

    scores = []

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return self.scores.pop(0)


class Interruption(Hook):
    """Ends the run after so many iterations, as Ctrl-C does."""

    def __init__(self, iters):
        self.iters = iters

    def before_train_iter(self, runner, **kwargs):
        if runner.iter == self.iters:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch, shapes_dir):
    monkeypatch.setenv('DEMO_DATA', str(shapes_dir))
    monkeypatch.chdir(tmp_path)


def train(config=PRETRAIN, epochs=2, hooks=(), **options):
    """Train, four iterations an epoch; names of options have ``__``."""
    options = {name.replace('__', '.'): v for name, v in options.items()}
    cfg = launch.load_config(str(config), SMALL)
    if config == FINETUNE:
        cfg.merge_from_dict({'model.cls_head.in_channels': 16})
    cfg.merge_from_dict(
        {
            'work_dir': 'run',
            # Runs of the same second would share one message hub.
            'experiment_name': uuid.uuid4().hex,
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_interval': 1,
            'train_dataloader.batch_size': 8 if config == PRETRAIN else 4,
            'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            'default_hooks.checkpoint.save_optimizer': True,
            **options,
        }
    )
    if config == PRETRAIN:
        cfg.train_cfg.pop('val_interval')
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


@pytest.fixture(scope='module')
def first_runs(tmp_path_factory, shapes_dir):
    """Work dirs of a pre-training and a fine-tuning of one epoch.

    The latter leaves its encoder as safetensors.
    """
    folder = tmp_path_factory.mktemp('first_runs')
    with isolated():
        os.environ['DEMO_DATA'] = str(shapes_dir)
        os.chdir(folder)
        runner = train(epochs=1)
        torch.save(runner.model.state_dict(), 'run/trained.pth')
        os.rename('run', 'pretraining')
        train(FINETUNE, 1, default_hooks__export_backbone__format=SAFE)
        os.rename('run', 'fine-tuning')
    return folder


@pytest.fixture
def pretrained(first_runs):
    """In the folder `run`, a pre-training of one epoch."""
    shutil.copytree(first_runs / 'pretraining', 'run')
    checkpoint = Path('run/epoch_1.pth').absolute()
    Path('run/last_checkpoint').write_text(str(checkpoint))


@pytest.fixture
def finetuned(first_runs):
    """In the folder `run`, a fine-tuning of one epoch."""
    shutil.copytree(first_runs / 'fine-tuning', 'run')


def finetune(scores, save_best='auto', **kwargs):
    GivenScores.scores = list(scores)
    return train(
        FINETUNE,
        epochs=kwargs.pop('epochs', len(scores)),
        val_evaluator=dict(type='GivenScores'),
        default_hooks__checkpoint__save_best=save_best,
        **kwargs,
    )


def load(name='backbone.pth'):
    content = torch.load(Path('run', name), weights_only=True)
    assert content.keys() == {'state_dict', 'meta'}
    return content


def encoder_of(checkpoint):
    """The encoder in a checkpoint of MMEngine's, found with no code of ours"""
    state = torch.load(Path('run', checkpoint), weights_only=True)
    return {
        name: value
        for name, value in state['state_dict'].items()
        if name.split('.')[0] == 'backbone'
    }


def assert_same(one, other):
    """Names, types and every bit."""
    assert sorted(one) == sorted(other) and len(one) > 10
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        assert torch.equal(value, other[name]), name


def are_same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def card_of(name='backbone'):
    return json.loads(Path('run', f'{name}.json').read_text())


def exports():
    return sorted(path.name for path in Path('run').glob('backbone*'))


# --------------------------------------------------------------- contents


def test_pretraining_leaves_the_encoder_and_its_card(pretrained, shapes_dir):
    assert exports() == ['backbone.json', 'backbone.pth']
    content = load()
    trained = {
        name: value
        for name, value in torch.load('run/trained.pth').items()
        if name.startswith('backbone.')
    }
    assert_same(content['state_dict'], trained)
    assert_same(content['state_dict'], encoder_of('epoch_1.pth'))

    card = card_of()
    assert content['meta'] == card
    assert card['training'] == 'pre-training' and card['weights'] == 'last'
    assert (card['epoch'], card['iter']) == (1, 4)
    assert card['best'] == {} and card['averaged'] is False
    assert card['origin'] == [] and card['bad_videos'] == []
    assert card['config'] == PRETRAIN.stem
    assert card['model']['backbone']['embed_dims'] == 16
    assert card['model']['neck']['type'] == 'MotionMAEDecoder'
    listed = shapes_dir / 'pretrain.txt'
    assert card['data'] == [
        dict(
            type='RobustVideoDataset',
            num_videos=len(listed.read_text().splitlines()),
            list=str(listed),
            sha256=sha256(listed.read_bytes()),
            folder=str(shapes_dir),
        )
    ]
    assert card['normalization']['mean'] == pytest.approx(
        [123.675, 116.28, 103.53]
    )
    assert card['normalization']['std'] == pytest.approx(
        [58.395, 57.12, 57.375]
    )
    assert card['sampling'] == [
        dict(type='SampleFrames', clip_len=8, frame_interval=1)
    ]
    assert card['seed'] == 0 and card['versions']['torch'] == torch.__version__


def test_the_hash_is_that_of_the_tensors(pretrained):
    tensors, digest = load()['state_dict'], hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].numpy()
        digest.update(f'{name} torch.{array.dtype} {[*array.shape]};'.encode())
        digest.update(array.tobytes())
    assert card_of()['tensors'] == dict(
        sha256=digest.hexdigest(),
        count=len(tensors),
        parameters=sum(tensor.numpy().size for tensor in tensors.values()),
    )


@pytest.mark.parametrize(
    'run,format', [('pretrained', 'pth'), ('finetuned', SAFE)]
)
def test_stock_encoders_take_all_of_it(run, format, request):
    request.getfixturevalue(run)
    path = f'run/backbone.{format}'
    arguments = dict(img_size=32, patch_size=8, num_frames=8, embed_dims=16)
    pooled = run == 'finetuned'
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    encoder = VisionTransformer(
        **arguments,
        depth=2,
        num_heads=2,
        use_mean_pooling=pooled,
        init_cfg=init_cfg,
    )
    encoder.init_weights()
    trained = encoder_of('epoch_1.pth')
    found = encoder.state_dict()
    assert_same({f'backbone.{name}': v for name, v in found.items()}, trained)

    # And as `load_from` does it, into a whole model.
    model = torch.nn.Module()
    model.backbone = VisionTransformer(
        **arguments, depth=2, num_heads=2, use_mean_pooling=pooled
    )
    load_checkpoint(model, path, strict=True)
    assert_same(model.state_dict(), trained)


def test_safetensors_has_the_same_names_and_the_card(finetuned):
    assert exports() == ['backbone.json', 'backbone.safetensors']
    with safe_open('run/backbone.safetensors', framework='pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        assert json.loads(file.metadata()['meta']) == card_of()
    assert_same(tensors, encoder_of('epoch_1.pth'))


def test_fine_tuning_starts_from_it_and_says_so(pretrained):
    os.rename('run', 'pretraining')
    path = Path('pretraining/backbone.pth').resolve()
    origin = dict(path=str(path), sha256=sha256(path.read_bytes()))
    init_cfg = dict(
        type='Pretrained', checkpoint=str(path), prefix='backbone.'
    )
    runs = [dict(model__backbone__init_cfg=init_cfg)]
    runs.append(dict(load_from=str(path)))
    for options in runs:
        train(FINETUNE, epochs=1, **options)
        card = card_of()
        assert card['training'] == 'fine-tuning'
        assert card['origin'] == [origin]
        shutil.rmtree('run')


# ------------------------------------------------------------ best weights


def test_best_is_of_the_best_epoch_and_last_of_the_last():
    finetune([dict(acc=0.25), dict(acc=0.75), dict(acc=0.5)])
    assert exports() == [
        'backbone.json',
        'backbone.pth',
        'backbone_best.json',
        'backbone_best.pth',
    ]
    best, last = load('backbone_best.pth'), load()
    assert_same(best['state_dict'], encoder_of('epoch_2.pth'))
    assert_same(best['state_dict'], encoder_of('best_acc_epoch_2.pth'))
    assert_same(last['state_dict'], encoder_of('epoch_3.pth'))
    assert not are_same(best['state_dict'], last['state_dict'])
    cards = card_of('backbone_best'), card_of()
    assert cards == (best['meta'], last['meta'])
    assert [card['weights'] for card in cards] == ['best', 'last']
    assert [card['epoch'] for card in cards] == [2, 3]
    assert [card['iter'] for card in cards] == [8, 12]
    assert [card['best'] for card in cards] == [dict(acc=0.75)] * 2
    assert cards[0]['training'] == 'training from scratch'


def test_each_metric_has_a_best_of_its_own():
    scores = [(0.1, 1.0), (0.3, 3.0), (0.2, 0.5)]
    finetune(
        [{'acc/top1': acc, 'loss': loss} for acc, loss in scores],
        save_best=['acc/top1', 'loss'],
    )
    names = 'backbone_best_acc_top1', 'backbone_best_loss'
    assert {f'{name}.pth' for name in names} < {*exports()}
    assert len(exports()) == 6
    for name, epoch in zip(names, (2, 3), strict=True):
        assert_same(
            load(f'{name}.pth')['state_dict'], encoder_of(f'epoch_{epoch}.pth')
        )
    assert card_of(names[0])['best'] == {'acc/top1': 0.3}
    assert card_of(names[1])['best'] == dict(loss=0.5)
    assert card_of()['best'] == {'acc/top1': 0.3, 'loss': 0.5}


def test_averaged_weights_are_exported_where_they_are_evaluated():
    ema = dict(type='EMAHook', momentum=0.2)
    runner = finetune(
        [dict(acc=1), dict(acc=0)], default_hooks__ema=ema, epochs=2
    )
    (hook,) = [h for h in runner.hooks if type(h).__name__ == 'EMAHook']
    averaged = {
        f'backbone.{name}': value
        for name, value in hook.ema_model.module.backbone.state_dict().items()
    }
    raw = runner.model.state_dict()
    exported = load()['state_dict']
    assert_same(exported, averaged)
    assert not torch.equal(
        exported['backbone.pos_embed'] + exported['backbone.fc_norm.weight'],
        raw['backbone.pos_embed'] + raw['backbone.fc_norm.weight'],
    )
    best = load('backbone_best.pth')['state_dict']
    assert_same(best, encoder_of('best_acc_epoch_1.pth'))
    assert card_of()['averaged'] is True

    # Without a checkpoint at the end, too.
    shutil.rmtree('run')
    runner = train(
        FINETUNE,
        epochs=1,
        default_hooks__ema=ema,
        default_hooks__checkpoint__interval=-1,
        default_hooks__checkpoint__save_last=False,
    )
    (hook,) = [h for h in runner.hooks if type(h).__name__ == 'EMAHook']
    averaged = hook.ema_model.module.state_dict()
    assert_same(
        load()['state_dict'],
        {n: v for n, v in averaged.items() if n.startswith('backbone.')},
    )


# ------------------------------------------------------ when, and how often


def test_interval_counts_checkpoints(monkeypatch):
    epochs = []
    write = backbone_file.write_backbone

    def record(path, tensors, card):
        epochs.append(card['epoch'])
        return write(path, tensors, card)

    monkeypatch.setattr(
        'mmmotionmae.engine.hooks.export_backbone_hook.write_backbone', record
    )
    train(epochs=3, default_hooks__export_backbone__interval=2)
    assert epochs == [2, 3]
    assert_same(load()['state_dict'], encoder_of('epoch_3.pth'))


def test_at_the_end_it_needs_no_checkpoint():
    runner = train(
        epochs=1,
        default_hooks__checkpoint=None,
        default_hooks__export_backbone__interval=0,
    )
    assert not list(Path('run').glob('epoch_*'))
    state = runner.model.state_dict()
    trained = {n: v for n, v in state.items() if n.startswith('backbone.')}
    assert_same(load()['state_dict'], trained)
    assert (card_of()['epoch'], card_of()['iter']) == (1, 4)


def test_runs_by_iteration():
    loop = dict(type='IterBasedTrainLoop', max_iters=6)
    with pytest.raises(KeyboardInterrupt):
        train(
            train_cfg=dict(_delete_=True, **loop),
            param_scheduler=[],
            hooks=[Interruption(5)],
            default_hooks__checkpoint__by_epoch=False,
            default_hooks__checkpoint__interval=4,
        )
    assert_same(load()['state_dict'], encoder_of('iter_4.pth'))
    assert card_of()['iter'] == 4


def test_frozen_encoders_are_not_exported():
    backbone = dict(type='FusedVisionTransformer', frozen_stages=2)
    train(
        FINETUNE,
        epochs=1,
        **{f'model__backbone__{name}': v for name, v in backbone.items()},
    )
    assert Path('run/epoch_1.pth').is_file()
    assert exports() == []


# ------------------------------------------------- interrupted and resumed


def test_resumed_run_goes_on_with_its_own_files():
    scores = [dict(acc=0.75), dict(acc=0.25), dict(acc=0.5)]
    with pytest.raises(KeyboardInterrupt):
        finetune(scores, epochs=3, hooks=[Interruption(6)])
    first = card_of()
    assert first['epoch'] == 1
    assert_same(load()['state_dict'], encoder_of('epoch_1.pth'))
    best = Path('run/backbone_best.pth').read_bytes()

    with pytest.raises(KeyboardInterrupt):  # before it is validated
        finetune(
            scores[1:],
            epochs=3,
            resume=True,
            hooks=[Interruption(8)],
            train_cfg__val_interval=9,
        )
    assert card_of()['best'] == dict(acc=0.75) and card_of()['epoch'] == 2

    finetune(scores[1:], epochs=3, resume=True)  # that of epoch 2 first
    assert len(exports()) == 4  # nothing was renamed
    assert_same(load()['state_dict'], encoder_of('epoch_3.pth'))
    last = card_of()
    assert last['run'] == first['run'] and last['epoch'] == 3
    assert last['best'] == dict(acc=0.75)
    assert Path('run/backbone_best.pth').read_bytes() == best

    # A resumed run that gets better writes the best anew.
    finetune([scores[2], dict(acc=0.875)], epochs=4, resume=True)
    assert_same(
        load('backbone_best.pth')['state_dict'], encoder_of('epoch_4.pth')
    )
    assert card_of('backbone_best')['run'] == first['run']


def test_files_of_another_run_are_kept(pretrained):
    before = Path('run/backbone.pth').read_bytes()
    earlier = card_of()
    train(epochs=1, randomness__seed=1)
    assert card_of()['run'] != earlier['run']
    assert card_of()['seed'] == 1
    assert_same(load()['state_dict'], encoder_of('epoch_1.pth'))
    (kept,) = Path('run').glob('backbone.pth-*')
    assert kept.read_bytes() == before
    (kept,) = Path('run').glob('backbone.json-*')
    assert json.loads(kept.read_text()) == earlier
    assert len(exports()) == 4


@pytest.mark.parametrize('text', [None, '', '[]', '{"run": null}'])
def test_files_without_a_card_of_ours_are_kept(text):
    Path('run').mkdir()
    path, card = Path('run/backbone.pth'), dict(run='ours')
    path.write_text('of somebody')
    if text is not None:
        path.with_suffix('.json').write_text(text)
    tensors = {'backbone.a': torch.ones(2)}
    renamed = write_backbone(path, tensors, card)
    assert [before for before, _ in renamed][0] == path
    assert len(renamed) == 1 + (text is not None)
    (kept,) = Path('run').glob('backbone.pth-*')
    assert kept == renamed[0][1] and kept.read_text() == 'of somebody'
    assert load()['meta'] == card_of() == card
    assert write_backbone(path, tensors, card) == []


def test_interruption_leaves_no_half_file(pretrained, monkeypatch):
    before = {n: Path('run', n).read_bytes() for n in exports()}

    def save_half(content, file):
        file.write(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(backbone_file.torch, 'save', save_half)
    with pytest.raises(KeyboardInterrupt):
        train(
            epochs=2,
            resume=True,
            default_hooks__checkpoint__interval=-1,
            default_hooks__checkpoint__save_last=False,
        )
    assert {n: Path('run', n).read_bytes() for n in exports()} == before


# -------------------------------------------------------------- data, names


def test_bad_videos_are_named(shapes_dir):
    listed = (shapes_dir / 'pretrain.txt').read_text().splitlines()
    Path('bad.mp4').write_bytes(b'no video')
    lines = [str(shapes_dir / line) for line in listed]
    Path('list.txt').write_text('\n'.join([*lines, 'bad.mp4', '']))
    with pytest.raises(KeyboardInterrupt):
        train(
            epochs=2,
            hooks=[Interruption(6)],
            train_dataloader__dataset__ann_file='list.txt',
            train_dataloader__dataset__data_prefix=dict(video=''),
        )
    assert card_of()['bad_videos'] == ['bad.mp4']
    assert card_of()['data'][0]['num_videos'] == len(listed) + 1
    # A resumed run knows of it, whether it comes across it again or not.
    Path('list.txt').write_text('\n'.join([*lines, lines[0], '']))
    train(
        epochs=2,
        resume=True,
        train_dataloader__dataset__ann_file='list.txt',
        train_dataloader__dataset__data_prefix=dict(video=''),
    )
    assert card_of()['epoch'] == 2
    assert card_of()['bad_videos'] == ['bad.mp4']


class Folder:
    """A data set without a list."""

    ann_file, data_prefix = '', dict(video='/videos')

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def name_of(self, index):
        return f'/videos/{self.names[index]}'


class Together:
    def __init__(self, *datasets):
        self.datasets = datasets


class Around:
    def __init__(self, dataset):
        self.dataset = dataset


def test_folders_are_told_apart_by_the_names_in_them():
    one, other = Folder(['a.mp4', 'b/c.mp4']), Folder(['a.mp4'])
    found = describe_data(Together(Around(one), other))
    assert [part['num_videos'] for part in found] == [2, 1]
    assert [part['sha256'] for part in found] == [
        sha256(b'a.mp4\nb/c.mp4\n'),
        sha256(b'a.mp4\n'),
    ]
    assert [part['list'] for part in found] == [None, None]
    assert found[0]['folder'] == '/videos'


def test_names_of_wrappers_are_left_out():
    value = torch.arange(6.0).reshape(2, 3)
    state = {
        'module.backbone.a': value,
        'backbone.module.b': value.t(),
        '_fsdp_wrapped_module.backbone.blocks.0._orig_mod.c': value[:1],
        'backbone.blocks.1._checkpoint_wrapped_module.module.d': value,
        'neck.backbone.e': value,
        'backbone_other.f': value,
        'backbone.g': 'no tensor',
    }
    tensors = encoder_tensors(state)
    assert list(tensors) == [
        'backbone.a',
        'backbone.b',
        'backbone.blocks.0.c',
        'backbone.blocks.1.module.d',
    ]
    assert torch.equal(tensors['backbone.b'], value.t())
    for tensor in tensors.values():
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == 4 * tensor.numel()
        assert tensor.data_ptr() != value.data_ptr()


def test_parts_of_tensors_are_not_exported():
    """Those of ZeRO 3, which leaves empty tensors in the place of weights."""
    whole, part = torch.ones(2), torch.ones(0)
    assert encoder_tensors({'backbone.a': whole})
    assert encoder_tensors({'backbone.a': whole, 'backbone.b': part}) == {}


def test_unknown_format_is_refused():
    with pytest.raises(ValueError, match="pth, safetensors; it is 'onnx'"):
        HOOKS.build(dict(type='ExportBackboneHook', format='onnx'))


# ------------------------------------------------------------- processes


def test_other_processes_write_nothing(monkeypatch):
    monkeypatch.setattr(
        'mmmotionmae.engine.hooks.export_backbone_hook.is_main_process',
        lambda: False,
    )
    train(epochs=1)
    assert Path('run/epoch_1.pth').is_file()
    assert exports() == []


@pytest.mark.slow
def test_two_processes_write_once(run_env):
    options = [f'{name}={value}' for name, value in SMALL.items()]
    options += ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4']
    launcher = [
        *[sys.executable, '-m', 'torch.distributed.run', '--standalone'],
        *['--nproc_per_node=2', ROOT / 'tools/train.py', PRETRAIN],
    ]
    done = subprocess.run(
        [
            *[*launcher, '--work-dir', 'run', '--launcher', 'pytorch'],
            *['--cfg-options', *options],
        ],
        env=run_env,
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count('The encoder is in') == 1
    assert exports() == ['backbone.json', 'backbone.pth']
    assert_same(load()['state_dict'], encoder_of('epoch_1.pth'))
    assert load()['meta'] == card_of()
