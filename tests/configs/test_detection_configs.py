# Copyright (c) MotionMAE contributors. All rights reserved.
"""AVA is MMAction2's: configs/detection against its own files."""

import sys
from importlib.util import find_spec
from pathlib import Path

import mmaction
import pytest
import torch
import train as tool  # noqa: E402
import yaml
from conftest import ROOT
from mmaction.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmmotionmae.apis import UsageError, build_runner

FOLDER = ROOT / 'configs' / 'detection'
NAME = 'vit-{}-p16_{}-k400-pre_8xb8-16x4x1-20e-adamw_ava-kinetics-rgb'
STOCK = Path(mmaction.__file__).parent / '.mim/configs/detection/videomae'
SIZES = ('base', 'large')
# What every config here has, whatever it trains.
RUNTIME = {'custom_imports', 'randomness', 'resume_optimizer'}
HOOKS = {
    'runtime_info': 'DeferredRuntimeInfoHook',
    'check_finite': 'CheckFiniteHook',
    'average_logs': 'AverageLogsHook',
    'loader_wait': 'LoaderWaitHook',
    'timed_checkpoint': 'TimedCheckpointHook',
    'preemption': 'PreemptionHook',
    'resume': 'ResumeHook',
    'seed': 'SeedIterHook',
    'bad_videos': 'BadVideosHook',
    'export_backbone': 'ExportBackboneHook',
}
HAS_OPS = find_spec('mmdet') and find_spec('mmcv._ext')


def load(size):
    return (
        Config.fromfile(FOLDER / f'{NAME.format(size, "motionmae")}.py'),
        Config.fromfile(STOCK / f'{NAME.format(size, "videomae")}.py'),
    )


@pytest.mark.parametrize('size', SIZES)
def test_every_setting_is_mmaction2s(size):
    ours, stock = (cfg.to_dict() for cfg in load(size))
    init_cfg = ours['model']['backbone'].pop('init_cfg')
    assert init_cfg['prefix'] == 'backbone.'
    assert stock['model'].pop('init_cfg')['type'] == init_cfg['type']
    for name in RUNTIME:
        ours.pop(name)
    hooks = {name: ours['default_hooks'].pop(name)['type'] for name in HOOKS}
    assert hooks == HOOKS
    stock['default_hooks'].pop('runtime_info')
    # It can be interrupted anywhere, and does not wait for ever.
    assert ours['train_cfg'].pop('type') == 'ResumableEpochLoop'
    assert stock['train_cfg'].pop('type') == 'EpochBasedTrainLoop'
    assert ours['env_cfg']['dist_cfg'].pop('timeout') == 600
    # Off unless it is asked for.
    assert not stock['auto_scale_lr'].pop('enable')
    # Names that MMAction2's file uses on its way.
    for name in set(stock) - set(ours):
        assert isinstance(stock.pop(name), str), name
    assert ours == stock


def test_there_are_no_others():
    names = {path.stem for path in FOLDER.glob('*.py')}
    assert names == {NAME.format(size, 'motionmae') for size in SIZES}


@pytest.mark.parametrize('source', ['MotionMAEViT', 'VisionTransformer'])
def test_encoder_takes_a_checkpoint(source, tmp_path):
    """Of pre-training, whole; of fine-tuning, all but the last norm."""
    cfg = load('base')[0].model.backbone
    cfg.update(embed_dims=24, depth=2, num_heads=3, img_size=32)
    sizes = {
        name: cfg[name]
        for name in ('embed_dims', 'depth', 'num_heads', 'img_size')
    }
    encoder = MODELS.build(dict(type=source, **sizes))
    for parameter in encoder.parameters():
        nn.init.normal_(parameter)
    state = {f'backbone.{k}': v for k, v in encoder.state_dict().items()}
    checkpoint = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=state), checkpoint)
    cfg.init_cfg.checkpoint = str(checkpoint)
    backbone = MODELS.build(cfg)
    backbone.init_weights()
    fresh = {'norm.weight': torch.ones(24), 'norm.bias': torch.zeros(24)}
    for name, found in backbone.state_dict().items():
        expected = state.get(f'backbone.{name}', fresh.get(name))
        assert torch.equal(found, expected), name
    assert ('backbone.norm.weight' in state) == (source == 'MotionMAEViT')
    # Tokens of larger frames than the encoder was trained with.
    clip = torch.randn(1, 3, 16, 48, 64)
    assert backbone(clip).shape == (1, 24, 8, 3, 4)


@pytest.mark.skipif(bool(HAS_OPS), reason='mmdet and mmcv are here')
def test_what_is_missing_is_said(tmp_path, capsys, monkeypatch):
    config = FOLDER / f'{NAME.format("base", "motionmae")}.py'
    with pytest.raises(UsageError, match='mmdet>=3.0 and the full mmcv'):
        build_runner(Config.fromfile(config))
    arguments = ['train.py', str(config), '--work-dir', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', arguments)
    assert tool.main() == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert 'AVA detection needs mmdet' in lines[0]


@pytest.mark.skipif(not HAS_OPS, reason='needs mmdet and the full mmcv')
def test_training_step():
    from mmaction.structures import ActionDataSample
    from mmengine.optim import OptimWrapper
    from mmengine.structures import InstanceData

    cfg = load('base')[0].model
    cfg.backbone.pop('init_cfg')
    cfg.backbone.update(embed_dims=24, depth=2, num_heads=3)
    cfg.roi_head.bbox_head.in_channels = 24
    model = MODELS.build(cfg)
    model.init_weights()
    samples = []
    for _ in range(2):
        boxes = torch.tensor([[0.0, 0, 100, 200], [50, 20, 220, 250]])
        labels = torch.zeros(2, 81)
        labels[:, 12] = 1
        sample = ActionDataSample()
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        sample.proposals = InstanceData(bboxes=boxes, scores=torch.ones(2))
        sample.set_metainfo(dict(img_shape=(256, 256)))
        samples.append(sample)
    clips = torch.randint(0, 256, (2, 3, 16, 256, 256), dtype=torch.uint8)
    data = dict(inputs=[*clips], data_samples=samples)
    before = model.backbone.blocks[0].attn.qkv.weight.clone()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    losses = [
        model.train_step(data, wrapper)['loss_action_cls'].item()
        for _ in range(5)
    ]
    assert losses[-1] < losses[0]
    assert not torch.equal(model.backbone.blocks[0].attn.qkv.weight, before)


def test_references_are_mmaction2s():
    ours, stock = (
        yaml.safe_load((folder / 'metafile.yml').read_text())['Models']
        for folder in (FOLDER, STOCK)
    )
    assert len(ours) == len(SIZES)
    for size, model, theirs in zip(SIZES, ours, stock, strict=True):
        assert model['Name'] == NAME.format(size, 'motionmae')
        published = theirs['Results'][0]['Metrics']['mAP']
        assert model['Results'][0]['Reference'] == f'VideoMAE {published}'
        encoder = MODELS.build(load(size)[0].model.backbone)
        count = sum(p.numel() for p in encoder.parameters())
        assert model['Metadata']['Parameters'] == f'{count / 1e6:.1f}M'
