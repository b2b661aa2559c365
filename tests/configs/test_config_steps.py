# Copyright (c) MotionMAE contributors. All rights reserved.
"""Every config, shrunk, takes a step of training and a test batch."""

import re

import numpy as np
import pytest
import torch
from helpers.config_files import (
    BY_STEM,
    CLASSIFICATIONS,
    DETECTIONS,
    FINETUNINGS,
    PRETRAININGS,
    TINY,
    Name,
    each,
    read,
    shrink,
)
from mmaction.registry import MODELS
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner, save_checkpoint


def train_step(cfg):
    """One step of the optimiser.

    Returns:
        The model, what each batch logged, parameters before, and the largest
        gradient of each parameter that got one.
    """
    loader = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    model = MODELS.build(cfg.model)
    model.init_weights()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    wrapper.initialize_count_status(model, 0, 1000)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    gradients = {}

    def remember(name):
        return lambda parameter: gradients.update(
            {name: parameter.grad.abs().max().item()}
        )

    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(remember(name))
    model.train()
    logs = []
    for _ in range(cfg.optim_wrapper.get('accumulative_counts', 1)):
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, before[name]), f'{name}: too early'
        logs.append(model.train_step(next(loader), wrapper))
    return model, logs, before, gradients


@each(PRETRAININGS + CLASSIFICATIONS)
def test_config_trains(path, shapes_dir):
    """All that is not frozen gets a gradient and changes; the rest stays."""
    if 'rand_augment' in read(path).model.data_preprocessor:
        pytest.importorskip('kornia')
    cfg = shrink(read(path), shapes_dir)
    model, logs, before, gradients = train_step(cfg)

    expected = {'loss_cls'}
    if path in PRETRAININGS:
        expected = {'loss_pixel', 'loss_motion'}
        if path.stem.startswith('videomae'):
            expected.remove('loss_motion')
        if '-motion-only_' in path.stem:
            expected.remove('loss_pixel')
        for name in ('flow', 'hog', 'tubelet-difference'):
            if f'-{name}_' in path.stem:
                targets = read(path).model.targets
                expected = {f'loss_{target}' for target in targets}
    for log in logs:
        losses = {key for key in log if key.startswith('loss_')}
        assert losses == expected
        total = sum(log[key] for key in losses)
        assert torch.isfinite(total)
        assert log['loss'].item() == pytest.approx(total.item(), rel=1e-6)

    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert set(gradients) == trained
    for name, parameter in model.named_parameters():
        changed = not torch.equal(parameter, before[name])
        assert changed == (name in trained), name
        assert name not in trained or gradients[name] > 0, name
    frozen = (
        {name for name in before if name.startswith('backbone.')}
        if path.parent.name == 'probing'
        else set()
    )
    assert set(before) - trained == frozen


# --------------------------------------------------------------- evaluation

VIEWS = {  # clips, crops
    'recognition/kinetics400': (5, 3),
    'recognition/sthv2': (2, 3),
    'recognition/ucf101': (10, 3),
    'recognition/hmdb51': (10, 3),
    'recognition/videos': (5, 3),
    'probing/kinetics400': (5, 3),
    'probing/sthv2': (2, 3),
    'probing/ucf101': (10, 3),
    'probing/hmdb51': (10, 3),
    'demo/moving-shapes': (1, 1),
    'demo/videos': (3, 1),
    'study/study': (1, 1),
}


@each(CLASSIFICATIONS)
def test_config_evaluates(path, shapes_dir, tmp_path):
    """All views of two videos, through recognizer and metric."""
    cfg = shrink(read(path), shapes_dir)
    if cfg.test_evaluator.type == 'AccReportMetric':
        cfg.test_evaluator.out_dir = str(tmp_path)
        if 'classes' in cfg.test_evaluator:
            names = [f'class {i}\n' for i in range(cfg.num_classes)]
            cfg.test_evaluator.classes = str(tmp_path / 'classes.txt')
            (tmp_path / 'classes.txt').write_text(''.join(names))
    cfg.model.data_preprocessor.pop('rand_augment', None)
    data = re.sub(r'-\d+percent', '', Name.of(path.stem).data)
    views = VIEWS[f'{path.parent.name}/{data}']
    batch = next(iter(Runner.build_dataloader(cfg.test_dataloader)))
    frames = cfg.model.backbone.num_frames
    assert [tuple(clips.shape) for clips in batch['inputs']] == [
        (views[0] * views[1], 3, frames, 32, 32)
    ] * 2
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.nn.init.normal_(model.cls_head.fc_cls.weight)
    model.eval()
    with torch.no_grad():
        samples = model.test_step(batch)
    scores = torch.stack([sample.pred_score for sample in samples])
    assert scores.shape == (2, cfg.model.cls_head.num_classes)
    assert scores.isfinite().all() and scores.std() > 0
    assert scores.sum(1).tolist() == pytest.approx([1, 1], rel=1e-5)
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.process(samples, batch)
    metrics = evaluator.evaluate(2)
    labels = [sample.gt_label.item() for sample in samples]
    top1 = np.mean(scores.argmax(1).numpy() == labels)
    assert metrics['acc/top1'] == top1


# ------------------------------------------------------------ first weights

DEMO = 'motionmae_vit-tiny-p8_1xb16-16x2x1-40e_videos'
DATA = dict(k400='kinetics400')


def pretraining_of(cfg):
    """Path of the config that makes the first weights, and the epoch."""
    init_cfg = cfg.model.backbone.init_cfg
    assert (init_cfg.type, init_cfg.prefix) == ('Pretrained', 'backbone.')
    folder, _, file = init_cfg.checkpoint.rpartition('/')
    # There `make demo` trains.
    stem = {'work_dirs/demo_videos/pretrain': DEMO}.get(
        folder, folder.removeprefix('work_dirs/')
    )
    return BY_STEM[stem], file


@each(FINETUNINGS)
def test_first_weights_are_those_of_a_config(path):
    cfg = read(path)
    source, file = pretraining_of(cfg)
    pretraining = read(source)
    assert source in PRETRAININGS
    assert file == f'epoch_{pretraining.train_cfg.max_epochs}.pth'
    ours, theirs = cfg.model.backbone, pretraining.model.backbone
    for key in (
        *('embed_dims', 'depth', 'num_heads', 'img_size'),
        *('patch_size', 'num_frames', 'tubelet_size'),
    ):
        assert ours[key] == theirs[key], key
    if path.parent.name in TINY:
        return
    # `vit-base-p16_motionmae-k400-1600e-pre`
    module, _, pre = Name.of(path.stem).algorithm.partition('_')
    algorithm, data, *epochs = pre.split('-pre')[0].split('-')
    name = Name.of(source.stem)
    assert name.algorithm == f'{algorithm}_{module}'
    assert name.data == DATA.get(data, data)
    assert epochs in ([], [f'{name.epochs}e'])


@each(DETECTIONS)
def test_first_weights_of_detection(path):
    cfg = read(path)
    folder, _, file = cfg.model.backbone.init_cfg.checkpoint.rpartition('/')
    source = BY_STEM[folder.removeprefix('work_dirs/')]
    finetuning = read(source)
    assert file == f'epoch_{finetuning.train_cfg.max_epochs}.pth'
    assert source.stem.split('-pre_')[0] == path.stem.split('-pre_')[0]
    for key in ('embed_dims', 'depth', 'num_heads'):
        assert cfg.model.backbone[key] == finetuning.model.backbone[key]


@pytest.mark.parametrize(
    'stem',
    [
        'vit-small-p16_motionmae-ucf101-pre_8xb32-16x4x1-amp-100e_ucf101-rgb',
        'vit-base-p16_videomae-sthv2-pre_64xb8-u16-amp-50e_sthv2-rgb',
    ],
)
def test_first_weights_are_loaded(stem, shapes_dir, tmp_path):
    """Bit by bit, through `init_cfg` as it stands but for its folder."""
    cfg = read(BY_STEM[stem])
    source, file = pretraining_of(cfg)
    init_cfg = cfg.model.backbone.init_cfg
    pretrained = MODELS.build(shrink(read(source), shapes_dir).model)
    pretrained.init_weights()
    save_checkpoint(
        dict(state_dict=pretrained.state_dict()), str(tmp_path / file)
    )
    cfg = shrink(cfg, shapes_dir)
    cfg.model.data_preprocessor.pop('rand_augment')
    init_cfg.checkpoint = str(tmp_path / file)
    cfg.model.backbone.init_cfg = init_cfg
    model = MODELS.build(cfg.model)
    model.init_weights()
    ours = model.backbone.state_dict()
    theirs = pretrained.backbone.state_dict()
    # The last norm comes after the mean here, and is trained anew.
    new = {'fc_norm.weight', 'fc_norm.bias'}
    assert set(ours) - set(theirs) == new
    assert set(theirs) - set(ours) == {'norm.weight', 'norm.bias'}
    for name in set(ours) - new:
        assert torch.equal(ours[name], theirs[name]), name
