# Copyright (c) MotionMAE contributors. All rights reserved.
"""Layer decay and weight decay of every parameter are VideoMAE's."""

import pytest
from helpers.config_files import PRETRAININGS, each, read
from helpers.videomae_recipes import (
    DECAYED,
    FINETUNE_RECIPES,
    RECIPES,
    check_steps,
    decay_of,
    groups_of,
    layer_of,
    one_of_each_size,
    weight_decay,
)


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
        decay = weight_decay(name, parameter, decay_of(path))
        assert group['weight_decay'] == decay, name
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


@each([path for path in FINETUNE_RECIPES if '_scratch_' in path.stem])
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
            type='AdamW',
            betas=(0.9, second),
            weight_decay=decay_of(path),
            fused=True,
        ), path.stem
