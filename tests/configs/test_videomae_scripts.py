# Copyright (c) MotionMAE contributors. All rights reserved.
"""Formulas and recipes beside VideoMAE's own code.

Where the environment variable VIDEOMAE_CHECKOUT names a clone of
MCG-NJU/VideoMAE, its functions and scripts are asked.
"""

import ast
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.config_files import (
    PRETRAININGS,
    Name,
    each,
    read,
)
from helpers.videomae_recipes import (
    CHECKOUT,
    DECAYED,
    RECIPES,
    groups_of,
    official,
    one_of_each_size,
    recipe_of,
    videomae_lr,
)


def from_checkout(file, *names):
    """Functions and classes of a file, whose imports are not needed."""
    tree = ast.parse((Path(CHECKOUT) / file).read_text())
    tree.body = [
        node for node in tree.body if getattr(node, 'name', 0) in names
    ]
    found = dict(np=np, math=math, json=json)
    exec(compile(tree, file, 'exec'), found)
    return [found[name] for name in names]


@official
@pytest.mark.parametrize('schedule', [(1.2e-3, 8e-5, 7, 80), (1, 0, 5, 50)])
def test_formula_of_the_schedule_is_videomaes(schedule):
    base, final, warm_up, epochs = schedule
    (cosine_scheduler,) = from_checkout('utils.py', 'cosine_scheduler')
    theirs = cosine_scheduler(base, final, epochs, 11, warm_up)
    ours = [
        videomae_lr(step, base, final, 11 * warm_up, 11 * epochs)
        for step in range(11 * epochs)
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@official
@each(one_of_each_size(DECAYED))
def test_formula_of_the_groups_is_videomaes(path, tmp_path):
    cfg = read(path)
    depth = cfg.model.backbone.depth
    rate = cfg.optim_wrapper.paramwise_cfg.decay_rate
    *_, assigner, get_parameter_groups = from_checkout(
        'optim_factory.py',
        'get_num_layer_for_vit',
        'LayerDecayValueAssigner',
        'get_parameter_groups',
    )
    values = assigner([rate ** (depth + 1 - i) for i in range(depth + 2)])
    model, wrapper, groups = groups_of(cfg, tmp_path)
    names = {id(p): name for name, p in model.named_parameters()}
    official_model = SimpleNamespace(
        named_parameters=lambda: [
            (name.removeprefix('backbone.'), parameter)
            for name, parameter in model.named_parameters()
        ]
    )
    theirs = get_parameter_groups(
        official_model,
        0.05,
        {'pos_embed', 'cls_token'},
        values.get_layer_id,
        values.get_scale,
    )
    base = cfg.optim_wrapper.optimizer.lr
    for group in theirs:
        for parameter in group['params']:
            name = names[id(parameter)]
            ours = wrapper.optimizer.param_groups[groups[name]]
            assert ours['weight_decay'] == group['weight_decay'], name
            assert ours['lr'] == pytest.approx(
                base * group['lr_scale'], rel=1e-6
            ), name


def script_of(path):
    """Of VideoMAE, that a docstring names, and what it makes exceptions of."""
    text = ' '.join(ast.get_docstring(ast.parse(path.read_text())).split())
    found = re.search(
        r"VideoMAE's \((scripts/\S+\.sh)(?:; but for (.*?))?\)", text
    )
    if not found:
        return None
    exceptions = (found[2] or '').split(' and ')
    if 'Nobody has published one for ViT-' in text:
        exceptions.append('size')
    return found[1], exceptions


def options_of(pattern):
    """Its options, with the defaults of the program, and its processes."""
    (script,) = Path(CHECKOUT).glob(pattern)
    text = script.read_text()
    program = re.search(r'run_\w+\.py', text)[0]
    options = {}
    for node in ast.walk(ast.parse((Path(CHECKOUT) / program).read_text())):
        if isinstance(node, ast.Call) and node.args:
            defaults = [k.value for k in node.keywords if k.arg == 'default']
            name = getattr(node.args[0], 'value', None)
            if defaults and isinstance(name, str) and name.startswith('--'):
                try:
                    options[name[2:]] = ast.literal_eval(defaults[0])
                except ValueError:  # a constant of a package
                    continue
    for option in re.split(r'\s--', text)[1:]:
        name, *values = re.split(r'[\s=\\]+', option.strip('\\ \n'))
        numbers = [float(v) for v in values if re.fullmatch(r'[\d.e-]+', v)]
        if numbers:
            options[name] = numbers[0] if len(numbers) == 1 else numbers
    processes = options['nproc_per_node'] * options.get('nnodes', 1)
    return script, options, int(processes)


SCRIPTED = [path for path in RECIPES if script_of(path)]


@official
@each([path for path in SCRIPTED if path in PRETRAININGS])
def test_pretraining_is_that_of_the_script(path):
    cfg, name = read(path), Name.of(path.stem)
    pattern, exceptions = script_of(path)
    script, theirs, processes = options_of(pattern)
    _, _, warm_up, epochs = recipe_of(cfg)
    loader = cfg.train_dataloader
    repeats, pipeline = loader.dataset.num_repeats, loader.dataset.pipeline
    (sampling,) = (t for t in pipeline if t.type == 'SampleFrames')
    (mask,) = (t for t in pipeline if t.type == 'TubeMasking')
    ours = dict(
        lr=cfg.base_lr,
        min_lr=cfg.min_lr,
        warmup_epochs=warm_up * repeats,
        epochs=epochs * repeats + 1,  # theirs are counted from 0
        batch_size=name.batch_size / processes,
        sampling_rate=sampling.frame_interval,
        num_frames=sampling.clip_len,
        mask_ratio=mask.mask_ratio,
        decoder_depth=cfg.model.neck.depth,
        opt_betas=list(cfg.optim_wrapper.optimizer.betas),
        weight_decay=cfg.optim_wrapper.optimizer.weight_decay,
    )
    settings = dict(stride='sampling_rate', size='decoder_depth')
    for part in exceptions:
        ours.pop(settings.get(part, part), None)
    assert ours == {key: theirs[key] for key in ours}
    size = re.search('vit-([a-z]+)-', path.stem)[1]
    assert (f'pretrain_videomae_{size}_' in script.read_text()) == (
        'size' not in exceptions
    )


@official
@each([path for path in SCRIPTED if path not in PRETRAININGS])
def test_finetuning_is_that_of_the_script(path):
    cfg, name = read(path), Name.of(path.stem)
    pattern, exceptions = script_of(path)
    script, theirs, processes = options_of(pattern)
    _, _, warm_up, epochs = recipe_of(cfg)
    loader = cfg.train_dataloader
    head, optimizer = cfg.model.cls_head, cfg.optim_wrapper.optimizer
    augmentation = cfg.model.data_preprocessor
    mixup, cutmix = augmentation.blending.augments
    ours = dict(
        lr=cfg.base_lr,
        min_lr=cfg.min_lr,
        warmup_epochs=warm_up,
        epochs=epochs,
        batch_size=name.gpus * loader.batch_size / processes,
        num_sample=loader.dataset.get('num_repeats', 1),
        num_frames=cfg.model.backbone.num_frames,
        nb_classes=head.num_classes,
        layer_decay=cfg.optim_wrapper.paramwise_cfg.decay_rate,
        drop_path=cfg.model.backbone.drop_path_rate,
        fc_drop_rate=head.get('dropout_ratio', 0),
        smoothing=head.label_smooth_eps,
        reprob=augmentation.random_erasing.prob,
        mixup=mixup.alpha,
        cutmix=cutmix.alpha,
        opt_betas=list(optimizer.betas),
        weight_decay=optimizer.weight_decay,
    )
    (test,) = (
        t
        for t in cfg.test_dataloader.dataset.pipeline
        if t.type in ('SampleFrames', 'UniformSample')
    )
    if 'frame_interval' in test:
        ours['sampling_rate'] = test.frame_interval
    if name.data != 'ucf101':  # the paper's 10 x 3 there
        ours['test_num_segment'] = test.num_clips
    assert head.init_std == pytest.approx(0.02 * theirs['init_scale'])
    assert ours == {key: theirs[key] for key in ours}
    size = re.search('vit-([a-z]+)-', path.stem)[1]
    assert (f'vit_{size}_patch16' in script.read_text()) == (
        'size' not in exceptions
    )


def test_scripts_are_named():
    """Of VideoMAE's nine pairs each is somebody's."""
    named = {script_of(path)[0] for path in SCRIPTED}
    assert len(named) == 18
