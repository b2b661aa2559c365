# Copyright (c) MotionMAE contributors. All rights reserved.
"""Learning rates and weight decay of every step are VideoMAE's.

Its formulas (MCG-NJU/VideoMAE, utils.py `cosine_scheduler`, optim_factory.py,
run_mae_pretraining.py, run_class_finetuning.py) are written down here again.
Where the environment variable VIDEOMAE_CHECKOUT names a clone, its own
functions and scripts are asked, too.
"""

import ast
import json
import logging
import math
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from config_files import BY_STEM, PRETRAININGS, TRAININGS, Name, read, shrink
from mmaction.registry import MODELS, PARAM_SCHEDULERS
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner import Runner

from mmmotionmae.apis import launch

CHECKOUT = os.environ.get('VIDEOMAE_CHECKOUT')
official = pytest.mark.skipif(
    not CHECKOUT, reason='VIDEOMAE_CHECKOUT is not set'
)
# Those of probes, detection and the demo are not VideoMAE's.
RECIPES = [
    path
    for path in TRAININGS
    if path.parent.name in ('motionmae', 'videomae', 'recognition')
]
FINETUNINGS = [path for path in RECIPES if path not in PRETRAININGS]
START = 1e-6  # MMEngine's warm-up cannot start at 0, as VideoMAE's does


def each(paths):
    return pytest.mark.parametrize('path', paths, ids=lambda path: path.stem)


def videomae_lr(step, base, final, warm_up, total):
    """A step of VideoMAE's `cosine_scheduler`.

    Linear from 0 at the first of ``warm_up`` steps to ``base`` at the last;
    then half a cosine from ``base`` towards ``final``, which the step after
    the last would have.
    """
    if step < warm_up:
        return base * step / (warm_up - 1)
    phase = (step - warm_up) / (total - warm_up)
    return final + (base - final) / 2 * (1 + math.cos(math.pi * phase))


def our_lr(step, base, final, warm_up, total):
    """The same, but warm-up starts at ``START * base``."""
    lr = videomae_lr(step, base, final, warm_up, total)
    if step < warm_up:
        lr = START * base + (1 - START) * lr
    return lr


def recipe_of(cfg):
    """Learning rate, last one, epochs of warm-up, epochs."""
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.type == 'LinearLR' and cosine.type == 'CosineAnnealingLR'
    assert warm_up.start_factor == START
    assert cosine.begin == warm_up.end
    assert cosine.end == cfg.train_cfg.max_epochs
    base = cfg.optim_wrapper.optimizer.lr
    return base, base * cosine.eta_min_ratio, warm_up.end, cosine.end


def one_weight(lr):
    """An optimiser with one parameter, and no gradient to follow."""
    weight = torch.nn.Parameter(torch.zeros(1))
    return OptimWrapper(torch.optim.AdamW([weight], lr=lr))


def steps_of(cfg, wrapper, epoch_length):
    """The learning rates (groups,) that the runner sets, batch by batch."""
    schedulers = [
        PARAM_SCHEDULERS.build(
            dict(scheduler),
            default_args=dict(optimizer=wrapper, epoch_length=epoch_length),
        )
        for scheduler in cfg.param_scheduler
    ]
    groups = wrapper.optimizer.param_groups
    for _ in range(cfg.train_cfg.max_epochs * epoch_length):
        yield [group['lr'] for group in groups]
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()


def scale_lr(cfg, wrapper, ranks):
    """What `tools/train.py --auto-scale-lr` does on so many processes."""
    launch.set_auto_scale_lr(cfg)
    runner = SimpleNamespace(
        world_size=ranks,
        _train_dataloader=cfg.train_dataloader,
        param_schedulers=None,
        logger=logging.getLogger(__name__),
    )
    Runner.scale_lr(runner, wrapper, cfg.auto_scale_lr)


# ---------------------------------------------------------------- schedules


@each(RECIPES)
def test_every_step(path):
    """Epochs of three steps.

    MMEngine counts batches, not steps of the optimiser. With `n` accumulated
    batches the learning rate of a step is that of its last batch, which lies
    between VideoMAE's of this step and of the next.
    """
    cfg = read(path)
    base, final, warm_up, epochs = recipe_of(cfg)
    n = Name.of(path.stem).accumulated
    lrs = [lr for (lr,) in steps_of(cfg, one_weight(base), 3 * n)]
    batches = (base, final, 3 * n * warm_up, 3 * n * epochs)
    expected = [our_lr(i, *batches) for i in range(len(lrs))]
    np.testing.assert_allclose(lrs, expected, rtol=1e-6)

    schedule = (base, final, 3 * warm_up, 3 * epochs)
    theirs = np.array([videomae_lr(i, *schedule) for i in range(3 * epochs)])
    ours = np.array(lrs[n - 1 :: n])
    slack = START * base  # of the start of warm-up
    if n == 1:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=slack)
    else:
        following = np.append(theirs[1:], final)
        low, high = np.sort([theirs, following], axis=0)
        assert (ours >= low * (1 - 1e-6)).all()
        assert (ours <= high * (1 + 1e-6) + slack).all()
        # They are in time with each other at the end of the warm-up.
        assert ours[3 * warm_up - 1] == pytest.approx(base, rel=1e-6)


@pytest.mark.parametrize(
    ('stem', 'videos'),
    [
        # About as many as there are; whole batches, for there is nothing to
        # round then: 82 steps an epoch, and 117.
        ('motionmae_vit-base-p16_32xb64-16x2x1-amp-800e_sthv2-rgb', 82 * 2048),
        (
            'motionmae_vit-base-p16_32xb64-16x4x1-amp-1600e_kinetics400-rgb',
            117 * 2048,
        ),
        (
            'vit-base-p16_motionmae-sthv2-pre_64xb8-u16-amp-50e_sthv2-rgb',
            329 * 512,
        ),
    ],
)
def test_real_schedule(stem, videos):
    """As long as VideoMAE's, in steps, and the same at each.

    An epoch of repeated sampling has `num_repeats` times as many steps, and
    there are as many times fewer epochs, of warm-up as well.
    """
    cfg, name = read(BY_STEM[stem]), Name.of(stem)
    epoch_length = videos // (cfg.train_dataloader.batch_size * name.gpus)
    pretraining = BY_STEM[stem] in PRETRAININGS
    base_lr, min_lr, warm_up = (
        (1.5e-4, 1e-5, 40) if pretraining else (5e-4, 1e-6, 5)
    )
    per_epoch = videos // name.batch_size
    schedule = (
        base_lr * name.batch_size / 256,
        min_lr * name.batch_size / 256,
        warm_up * per_epoch,
        name.epochs * per_epoch,
    )
    wrapper = one_weight(cfg.optim_wrapper.optimizer.lr)
    lrs = [lr for (lr,) in steps_of(cfg, wrapper, epoch_length)]
    assert len(lrs) == name.epochs * per_epoch
    first = schedule[2]
    for step in (
        *(1, first // 2, first - 1, first, first + 1, len(lrs) // 2),
        *(len(lrs) - 2, len(lrs) - 1),
    ):
        theirs = videomae_lr(step, *schedule)
        slack = START * schedule[0] if step < first else 0
        assert lrs[step] == pytest.approx(theirs, rel=1e-6, abs=slack)
    assert lrs[0] == pytest.approx(START * schedule[0])
    assert lrs[first - 1] == pytest.approx(schedule[0], rel=1e-9)


# ------------------------------------------------------ learning rate, ranks


@pytest.mark.parametrize('ranks', [1, 8, 64])
def test_learning_rate_follows_the_number_of_processes(ranks):
    """lr * batch_size * update_freq * world_size / 256, min_lr likewise.

    VideoMAE's batch_size is of clips in pre-training, and of videos in
    fine-tuning, where each gives num_sample clips.
    """
    for path in RECIPES:
        cfg = read(path)
        loader = cfg.train_dataloader
        batch_size = loader.batch_size
        if path in PRETRAININGS:
            batch_size *= loader.dataset.num_repeats
        accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
        factor = batch_size * accumulated * ranks / 256
        wrapper = one_weight(cfg.optim_wrapper.optimizer.lr)
        scale_lr(cfg, wrapper, ranks)
        (group,) = wrapper.optimizer.param_groups
        assert group['lr'] == pytest.approx(cfg.base_lr * factor, rel=1e-6)
        lrs = [lr for (lr,) in steps_of(cfg, wrapper, 1)]
        # The last step is 1 of `len` before the end of the cosine.
        schedule = (
            cfg.base_lr * factor,
            cfg.min_lr * factor,
            cfg.param_scheduler[0].end,
            len(lrs),
        )
        last = videomae_lr(len(lrs) - 1, *schedule)
        assert lrs[-1] == pytest.approx(last, rel=1e-6), path.stem


@each(RECIPES)
def test_learning_rate_of_the_config(path):
    """It is that for the number of processes in the name."""
    cfg, name = read(path), Name.of(path.stem)
    lr = cfg.optim_wrapper.optimizer.lr
    wrapper = one_weight(lr)
    scale_lr(cfg, wrapper, name.gpus)
    assert wrapper.optimizer.param_groups[0]['lr'] == pytest.approx(
        lr, rel=1e-6
    )
    repeats = cfg.train_dataloader.dataset.get('num_repeats', 1)
    samples = name.batch_size // (1 if path in PRETRAININGS else repeats)
    base, final, *_ = recipe_of(cfg)
    assert base == pytest.approx(cfg.base_lr * samples / 256, rel=1e-6)
    assert final == pytest.approx(cfg.min_lr * samples / 256, rel=1e-6)


# ------------------------------------------------------------------- groups


def groups_of(cfg, data):
    """Group of each parameter, by name, at the true depth; the wrapper."""
    cfg = shrink(cfg, data, depth=cfg.model.backbone.depth)
    cfg.model.data_preprocessor.pop('rand_augment', None)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {
        names.pop(id(parameter)): index
        for index, group in enumerate(wrapper.optimizer.param_groups)
        for parameter in group['params']
    }
    assert not names  # each is in one group
    return model, wrapper, groups


def weight_decay(name, parameter):
    """VideoMAE's rule: `get_parameter_groups`, `no_weight_decay`."""
    plain = parameter.ndim == 1 or name.endswith(('bias', 'mask_token'))
    return 0.0 if plain else 0.05


def layer_of(name, depth):
    """The number of the layer that a parameter belongs to.

    The tokens come first, then the blocks; the rest (norm, head) is last.
    """
    block = re.match(r'backbone\.blocks\.(\d+)\.', name)
    if block:
        return int(block[1]) + 1
    return 0 if name.startswith('backbone.patch_embed.') else depth + 1


def one_of_each_size(paths):
    found = {}
    for path in paths:
        size = re.search('vit-([a-z]+)-p16', path.stem)[1]
        found.setdefault(size, path)
    assert set(found) == {'small', 'base', 'large', 'huge'}
    return list(found.values())


def check_steps(cfg, wrapper, scales):
    """All groups follow the schedule, each on its scale."""
    schedule = recipe_of(cfg)
    for step, lrs in enumerate(steps_of(cfg, wrapper, 1)):
        expected = our_lr(step, *schedule)
        assert lrs == pytest.approx([expected * s for s in scales], rel=1e-6)
        if step > 2 * schedule[2]:
            break


@each(one_of_each_size([p for p in RECIPES if p in PRETRAININGS]))
def test_groups_of_pretraining(path, tmp_path):
    cfg = read(path)
    model, wrapper, groups = groups_of(cfg, tmp_path)
    kinds = set()
    for name, parameter in model.named_parameters():
        group = wrapper.optimizer.param_groups[groups[name]]
        assert group['weight_decay'] == weight_decay(name, parameter), name
        assert group['lr'] == cfg.optim_wrapper.optimizer.lr
        kinds.add((parameter.ndim > 1, group['weight_decay'] > 0))
    # The mask token has several dimensions, and yet no weight decay.
    assert kinds == {(True, True), (False, False), (True, False)}
    check_steps(cfg, wrapper, [1] * len(wrapper.optimizer.param_groups))


DECAYED = [path for path in FINETUNINGS if '_scratch_' not in path.stem]


@each(one_of_each_size(DECAYED))
def test_groups_of_finetuning(path, tmp_path):
    cfg = read(path)
    depth = cfg.model.backbone.depth
    rate = cfg.optim_wrapper.paramwise_cfg.decay_rate
    base = cfg.optim_wrapper.optimizer.lr
    model, wrapper, groups = groups_of(cfg, tmp_path)
    scales = {}
    for name, parameter in model.named_parameters():
        group = wrapper.optimizer.param_groups[groups[name]]
        assert group['weight_decay'] == weight_decay(name, parameter), name
        scale = rate ** (depth + 1 - layer_of(name, depth))
        assert group['lr'] == pytest.approx(base * scale, rel=1e-6), name
        scales[groups[name]] = scale
    assert layer_of('backbone.patch_embed.projection.weight', depth) == 0
    assert set(scales.values()) == {rate**i for i in range(depth + 2)}
    for name, scale in {
        'cls_head.fc_cls.weight': 1,
        'backbone.fc_norm.weight': 1,
        f'backbone.blocks.{depth - 1}.attn.q_bias': rate,
        'backbone.blocks.0.mlp.layers.1.weight': rate**depth,
        'backbone.patch_embed.projection.weight': rate ** (depth + 1),
    }.items():
        assert scales[groups[name]] == pytest.approx(scale, rel=1e-12)
    check_steps(cfg, wrapper, [scales[i] for i in range(len(scales))])


@each([path for path in FINETUNINGS if '_scratch_' in path.stem])
def test_groups_of_training_from_scratch(path, tmp_path):
    cfg = read(path)
    model, wrapper, groups = groups_of(cfg, tmp_path)
    for name, parameter in model.named_parameters():
        group = wrapper.optimizer.param_groups[groups[name]]
        assert group['weight_decay'] == weight_decay(name, parameter), name
        assert group['lr'] == cfg.optim_wrapper.optimizer.lr


def test_optimiser():
    """AdamW with VideoMAE's moments: 0.95 in pre-training, else 0.999."""
    for path in RECIPES:
        optimizer = dict(read(path).optim_wrapper.optimizer)
        optimizer.pop('lr')
        second = 0.95 if path in PRETRAININGS else 0.999
        assert optimizer == dict(
            type='AdamW', betas=(0.9, second), weight_decay=0.05, fused=True
        ), path.stem


# ------------------------------------------------------------ official code


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
