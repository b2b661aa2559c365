# Copyright (c) MotionMAE contributors. All rights reserved.
"""The recipes of configs/probing; that they train is in test_configs.py."""

import math
import os
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.model import convert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

CONFIGS = sorted((ROOT / 'configs/probing').glob('*.py'))
LINEAR = [path for path in CONFIGS if '_linear-probe' in path.stem]
ATTENTIVE = [path for path in CONFIGS if '_attentive-probe' in path.stem]
# A clone of V-JEPA's code; nothing is downloaded for a test.
CHECKOUT = os.environ.get('JEPA_CHECKOUT')


def each(paths):
    return pytest.mark.parametrize('path', paths, ids=lambda path: path.stem)


class Tiny(nn.Module):
    """A frozen encoder and a head, all that a schedule needs to see."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(2, 2).requires_grad_(False)
        self.cls_head = nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2))


def values_of(cfg, steps_per_epoch):
    """Learning rate and weight decays of each step of a training."""
    wrapper = build_optim_wrapper(Tiny(), cfg.optim_wrapper)
    schedulers = [
        PARAM_SCHEDULERS.build(
            dict(scheduler),
            default_args=dict(optimizer=wrapper, epoch_length=steps_per_epoch),
        )
        for scheduler in cfg.param_scheduler
    ]
    values = []
    for _ in range(cfg.train_cfg.max_epochs * steps_per_epoch):
        groups = wrapper.optimizer.param_groups
        (lr,) = {group['lr'] for group in groups}
        decays = sorted({group['weight_decay'] for group in groups})
        values.append((lr, decays))
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    return values


def half_cosine(share):
    return (1 + math.cos(math.pi * share)) / 2


def test_which_probes_there_are():
    runs = {
        (pre, data)
        for pre, data in (('k400', 'kinetics400'), ('k400', 'sthv2'))
        + (('sthv2', 'sthv2'), ('k400', 'ucf101'), ('k400', 'hmdb51'))
    }
    for paths in (LINEAR, ATTENTIVE):
        found = {
            (
                path.stem.split('motionmae-')[1].split('-pre')[0],
                path.stem.split('_')[-1].removesuffix('-rgb'),
            )
            for path in paths
        }
        assert found == runs and len(paths) == len(runs)


@each(CONFIGS)
def test_everything_but_the_head_is_frozen(path):
    cfg = Config.fromfile(path)
    assert cfg.model.data_preprocessor.type == 'ActionDataPreprocessor'
    assert 'label_smooth_eps' not in cfg.model.cls_head
    flips = [
        t.flip_ratio
        for t in cfg.train_dataloader.dataset.pipeline
        if t.type == 'Flip'
    ]
    assert flips == ([] if path.stem.endswith('sthv2-rgb') else [0.5])
    cfg.model.backbone.update(img_size=32, embed_dims=24)
    cfg.model.cls_head.update(in_channels=24)
    model = MODELS.build(cfg.model)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        f'cls_head.{n}' for n, _ in model.cls_head.named_parameters()
    }
    # The norm that was pre-trained, before the mean of the tokens.
    assert isinstance(model.backbone.norm, nn.LayerNorm)
    assert model.backbone.fc_norm is None


@each(LINEAR)
def test_schedule_of_mae(path):
    cfg = Config.fromfile(path)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.momentum) == ('SGD', 0.9)
    clips = cfg.auto_scale_lr.base_batch_size
    peak = 0.1 * clips / 256
    steps = 5
    for step, (lr, decays) in enumerate(values_of(cfg, steps)):
        expected = peak * half_cosine((step / steps - 10) / 90)
        if step < 10 * steps:
            expected = peak * step / (10 * steps - 1)
        assert lr == pytest.approx(expected, rel=1e-6, abs=2e-6 * peak)
        assert decays == [0]


def test_statistics_are_those_of_all_gpus():
    cfg = Config.fromfile(LINEAR[0])
    head = MODELS.build(cfg.model.cls_head)
    norm = convert_sync_batchnorm(head, cfg.sync_bn).norm
    assert isinstance(norm, nn.SyncBatchNorm)
    assert (norm.eps, norm.affine) == (1e-6, False)


@each(ATTENTIVE)
def test_schedule_of_v_jepa(path):
    cfg = Config.fromfile(path)
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    assert cfg.auto_scale_lr.base_batch_size == 256
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=1.0)
    steps = 5
    for step, (lr, decays) in enumerate(values_of(cfg, steps)):
        share = half_cosine(step / (20 * steps))
        decay = 1e-6 + (0.01 - 1e-6) * share
        assert lr == pytest.approx(1e-3 * share, rel=1e-6)
        # No decay of biases and norms, at any time.
        assert decays == pytest.approx([0, decay], rel=1e-6)


@pytest.mark.skipif(not CHECKOUT, reason='JEPA_CHECKOUT is not set')
@pytest.mark.parametrize(
    ('name', 'data'),
    [('vitl16_k400_16x8x3', 'kinetics400'), ('vitl16_ssv2_16x2x3', 'sthv2')],
)
def test_recipe_is_that_of_v_jepas_file(name, data):
    file = Path(CHECKOUT) / 'configs/evals' / f'{name}.yaml'
    official = yaml.safe_load(file.read_text())
    recipe = official['optimization']
    gpus = official['nodes'] * official['tasks_per_node']
    paths = [path for path in ATTENTIVE if f'_{data}-' in path.stem]
    assert paths
    for path in paths:
        assert f'-{gpus}xb{recipe["batch_size"]}-' in path.stem
        cfg = Config.fromfile(path)
        assert cfg.train_dataloader.batch_size == recipe['batch_size']
        assert cfg.train_cfg.max_epochs == recipe['num_epochs']
        optimizer = cfg.optim_wrapper.optimizer
        assert optimizer.lr == recipe['lr'] == recipe['start_lr']
        assert optimizer.weight_decay == recipe['weight_decay']
        assert cfg.param_scheduler[0].eta_min == recipe['final_lr']
        assert recipe['warmup'] == 0
        backbone = cfg.model.backbone
        data_cfg = official['data']
        assert backbone.num_frames == data_cfg['frames_per_clip']
        assert cfg.model.cls_head.num_classes == data_cfg['num_classes']
