# Copyright (c) MotionMAE contributors. All rights reserved.
"""Configs of the networks that MMEngine builds, and the FLOPs of all."""

import copy
from typing import Any

from model_flops import Flops, pretraining_flops
from model_setup import NUM_CLASSES, Setup

# What each of ours changes in the config.
OURS: dict[str, dict[str, dict[str, Any]]] = {
    'pixel': dict(head=dict(motion_weight=0.0)),
    'shared': dict(),
    'independent': dict(neck=dict(sharing='independent')),
    'decoder-masking': dict(data_preprocessor=dict(decoder_mask_ratio=0.5)),
    'cross-attention': dict(neck=dict(attention='cross')),
}
# Backbones that see all tokens; the first two are the same network.
BACKBONES = dict(
    stock='VisionTransformer',
    fused='FusedVisionTransformer',
    motionmae='MotionMAEViT',
)


def backbone_config(name: str, setup: Setup) -> dict[str, Any]:
    """The config of a backbone."""
    size = setup.size
    return dict(
        type=name,
        img_size=setup.img_size,
        patch_size=size.patch_size,
        num_frames=setup.num_frames,
        tubelet_size=size.tubelet_size,
        embed_dims=size.embed_dims,
        depth=size.depth,
        num_heads=size.num_heads,
    )


def recogniser_config(name: str, setup: Setup) -> dict[str, Any]:
    """The config of a classifier with this backbone, all else stock."""
    return dict(
        type='Recognizer3D',
        backbone=backbone_config(name, setup),
        cls_head=dict(
            type='TimeSformerHead',
            num_classes=NUM_CLASSES,
            in_channels=setup.size.embed_dims,
        ),
        data_preprocessor=dict(
            type='ActionDataPreprocessor',
            mean=(123.675, 116.28, 103.53),
            std=(58.395, 57.12, 57.375),
            format_shape='NCTHW',
        ),
    )


def our_config(
    key: str, setup: Setup, with_cp: bool = False
) -> dict[str, Any]:
    """The config of one of ours, for `MODELS.build`.

    Args:
        key: One of :data:`OURS`.
        setup: Sizes of network and clips.
        with_cp: Whether activations are checkpointed.
    """
    config: dict[str, Any] = dict(
        type='MotionMAE',
        backbone=dict(backbone_config('MotionMAEViT', setup), with_cp=with_cp),
        neck=dict(
            type='MotionMAEDecoder',
            embed_dims=setup.size.decoder_dims,
            depth=setup.size.decoder_depth,
            num_heads=setup.size.decoder_heads,
            with_cp=with_cp,
        ),
        head=dict(type='MotionMAEHead'),
        data_preprocessor=dict(type='MotionMAEDataPreprocessor'),
    )
    for part, changes in copy.deepcopy(OURS[key]).items():
        config[part].update(changes)
    return config


def pretraining_flops_of(key: str, setup: Setup) -> Flops:
    """FLOPs of the forward pass of a contender in pre-training."""
    options: dict[str, Any] = dict(embed_masked=True)  # theirs
    if key in OURS:
        changes = OURS[key]
        neck = changes.get('neck', {})
        weight = changes.get('head', {}).get('motion_weight', 1)
        options = dict(
            targets=('pixel', 'motion') if weight else ('pixel',),
            sharing=neck.get('sharing', 'shared'),
            attention=neck.get('attention', 'self'),
            short_last_block=True,
            **changes.get('data_preprocessor', {}),
        )
    return pretraining_flops(setup.size, *setup.tokens, **options)
