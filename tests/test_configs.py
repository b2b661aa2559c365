# Copyright (c) MotionMAE contributors. All rights reserved.
"""Every config can be read, and its model built."""

import ast

import pytest
from conftest import ROOT
from mmaction.registry import MODELS, TRANSFORMS
from mmengine.config import Config

from mmmotionmae.apis import launch

CONFIGS = sorted(
    path
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)


# Those of video object segmentation are in test_vos_configs.py.
TRAININGS = [p for p in CONFIGS if 'train_cfg' in Config.fromfile(p)]


@pytest.mark.parametrize('path', TRAININGS, ids=lambda path: path.stem)
def test_config_builds(path):
    cfg = Config.fromfile(path)
    assert cfg.default_scope == 'mmaction'
    assert cfg.custom_imports == dict(
        imports=['mmmotionmae'], allow_failed_imports=False
    )
    model = MODELS.build(cfg.model)
    for name in ('train', 'val', 'test'):
        loader = cfg.get(f'{name}_dataloader')
        for transform in loader.dataset.pipeline if loader else ():
            TRANSFORMS.build(transform)
    # Clips of the pipeline and of the encoder agree.
    backbone = cfg.model.backbone
    sampled = [
        transform.clip_len
        for transform in cfg.train_dataloader.dataset.pipeline
        if transform.type in ('SampleFrames', 'UniformSample')
    ]
    assert sampled == [backbone.num_frames]
    masks = [
        transform
        for transform in cfg.train_dataloader.dataset.pipeline
        if transform.type.endswith('Masking')
    ]
    assert len(masks) == (cfg.model.type == 'MotionMAE')
    for mask in masks:
        assert mask.patch_size == backbone.patch_size
        assert mask.tubelet_size == backbone.tubelet_size
    if 'vit-base' in path.stem:
        encoder = sum(p.numel() for p in model.backbone.parameters())
        assert encoder == pytest.approx(86.2e6, rel=0.01)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_says_what_it_is(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text is not None
    for word in ('esult', 'ardware', 'Command'):
        assert word in text, f'{path.name} does not state its {word}'


@pytest.mark.parametrize(
    'path',
    [p for p in TRAININGS if 'moving-shapes' in p.stem],
    ids=lambda path: path.stem,
)
def test_demo_configs_find_what_the_demo_wrote(path, monkeypatch):
    """`make demo` puts its videos beside its results, in work_dirs/demo."""
    monkeypatch.delenv('DEMO_DATA', raising=False)
    dataset = Config.fromfile(path).train_dataloader.dataset
    assert dataset.data_prefix.video == 'work_dirs/demo_data'


def test_the_schedule_of_videomae():
    """lr = 1.5e-4 * batch / 256, min_lr = 1e-5 * batch / 256, as published."""
    cfg = Config.fromfile(
        ROOT / 'configs' / 'motionmae' / 'motionmae_vit-base-p16_'
        '32xb64-16x2x1-amp-800e_sthv2-rgb.py'
    )
    lr = cfg.optim_wrapper.optimizer.lr
    assert lr == pytest.approx(1.2e-3)
    assert lr * cfg.param_scheduler[1].eta_min_ratio == pytest.approx(8e-5)
    assert 32 * launch.clips_per_rank_and_step(cfg) == 2048
    # Each epoch gives every video four times.
    assert cfg.train_dataloader.dataset.num_repeats * 200 == 800
    assert cfg.train_cfg.max_epochs == 200
    assert [s.end for s in cfg.param_scheduler] == [10, 200]
    assert cfg.auto_scale_lr.base_batch_size == 2048
