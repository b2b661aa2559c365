# Copyright (c) MotionMAE contributors. All rights reserved.
"""Tiny networks of MMAction2 for the tests of export and compilation."""

from conftest import TINY_BACKBONE
from mmaction.registry import MODELS
from torch import nn

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]


def randomise(model):
    """Biases and norms, too: zeros and ones hide mistakes."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def encoder(type, **changes):
    return randomise(MODELS.build(dict(TINY_BACKBONE, type=type, **changes)))


def recognizer_config(type='VisionTransformer', head=None, **changes):
    return dict(
        type='Recognizer3D',
        data_preprocessor=dict(
            type='ActionDataPreprocessor',
            mean=MEAN,
            std=STD,
            format_shape='NCTHW',
        ),
        backbone=dict(TINY_BACKBONE, type=type) | changes,
        cls_head=dict(
            dict(type='TimeSformerHead', average_clips='prob') | (head or {}),
            num_classes=5,
            in_channels=32,
        ),
    )


def recognizer(*args, **kwargs):
    return randomise(MODELS.build(recognizer_config(*args, **kwargs)))
