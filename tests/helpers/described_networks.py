# Copyright (c) MotionMAE contributors. All rights reserved.
"""Networks and configs whose costs are asked for."""

import torch
from benchmarks import networks
from benchmarks.memory import peak_of_tensors
from benchmarks.networks import Setup, draw_batch
from conftest import ROOT
from mmaction.registry import MODELS
from mmengine.config import Config
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmmotionmae.apis.cost.network import Size

CONFIGS = sorted(
    path
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
# Multiply-adds in G, parameters in M: MMAction2, configs/recognition, README
# of videomaev2 (S) and videomae (B, L). Nothing that we could read has ViT-H.
PUBLISHED = {'small': (57, 22), 'base': (180, 87), 'large': (597, 305)}
SETUP = Setup(
    Size(96, 4, 3, 64, 2, decoder_depth=3, patch_size=8),
    batch_size=2,
    img_size=64,
    mask_ratio=0.75,
)


def as_config(model, setup=SETUP, name='some_2xb6-acc3_data.py', **settings):
    """A config with this model and a training."""
    masking = dict(
        type='TubeMasking',
        mask_ratio=setup.mask_ratio,
        patch_size=setup.size.patch_size,
    )
    return Config(
        dict(
            dict(
                model=model,
                train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=5),
                train_dataloader=dict(
                    batch_size=3,
                    drop_last=True,
                    dataset=dict(num_repeats=2, pipeline=[masking]),
                ),
                optim_wrapper=dict(
                    optimizer=dict(type='AdamW', lr=1e-3),
                    accumulative_counts=3,
                ),
                auto_scale_lr=dict(base_batch_size=72),
            ),
            **settings,
        ),
        cfg_text='#',
        filename=name,
    )


def recogniser(backbone='VisionTransformer', head='TimeSformerHead', **extra):
    config = networks.recogniser_config(backbone, SETUP)
    config['backbone'].update(extra)
    if head != 'TimeSformerHead':
        config['backbone'].update(use_mean_pooling=False, return_feat_map=True)
        config['cls_head']['type'] = head
    if head == 'AttentiveProbeHead':
        config['cls_head']['num_heads'] = 3
    return config


def count_flops(function, *args):
    """What PyTorch counts; of attention it knows only the plain kernel."""
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        function(*args)
    return counter.get_total_flops()


def training_of(config, setup=SETUP, amp=False):
    """A model, and a function that does forward and backward as MMEngine."""
    model = MODELS.build(config).train()
    batch = draw_batch(setup, seed=0)

    def step():
        data = model.data_preprocessor(batch.data, True)
        with torch.autocast('cpu', torch.bfloat16, enabled=amp):
            losses = model(**data, mode='loss')
            loss = sum(v for key, v in losses.items() if 'loss' in key)
        loss.backward()

    return model, step


def peak_of_training(*args):
    """What a step allocates at its peak, exactly."""
    model, step = training_of(*args)
    step()
    model.zero_grad(set_to_none=True)
    return peak_of_tensors(step)
