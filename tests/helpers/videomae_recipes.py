# Copyright (c) MotionMAE contributors. All rights reserved.
"""VideoMAE's formulas, and what our configs make of them.

MCG-NJU/VideoMAE: utils.py `cosine_scheduler`, optim_factory.py,
run_mae_pretraining.py, run_class_finetuning.py.
"""

import logging
import math
import os
import re
from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import MODELS, PARAM_SCHEDULERS
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner import Runner

from helpers.config_files import PRETRAININGS, TRAININGS, shrink, size_of
from mmmotionmae.cli import train_options as launch

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
FINETUNE_RECIPES = [path for path in RECIPES if path not in PRETRAININGS]
START = 1e-6  # MMEngine's warm-up cannot start at 0, as VideoMAE's does


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


def decay_of(path):
    """VideoMAE's, or, of ViT-g on Kinetics-400, VideoMAE V2's."""
    tenth = size_of(path) == 'giant' and path.stem.endswith('kinetics400-rgb')
    return 0.1 if tenth and path not in PRETRAININGS else 0.05


def weight_decay(name, parameter, decay=0.05):
    """VideoMAE's rule: `get_parameter_groups`, `no_weight_decay`."""
    plain = parameter.ndim == 1 or name.endswith(('bias', 'mask_token'))
    return 0.0 if plain else decay


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
        found.setdefault(size_of(path), path)
    assert set(found) == {'small', 'base', 'large', 'huge', 'giant'}
    return list(found.values())


def check_steps(cfg, wrapper, scales):
    """All groups follow the schedule, each on its scale."""
    schedule = recipe_of(cfg)
    for step, lrs in enumerate(steps_of(cfg, wrapper, 1)):
        expected = our_lr(step, *schedule)
        assert lrs == pytest.approx([expected * s for s in scales], rel=1e-6)
        if step > 2 * schedule[2]:
            break


DECAYED = [path for path in FINETUNE_RECIPES if '_scratch_' not in path.stem]
