# Copyright (c) MotionMAE contributors. All rights reserved.
"""Networks that are measured: sizes, configs and input."""

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from torch import Tensor

from mmmotionmae.apis.cost.flops import (
    Flops,
    pretraining_flops,
    recognition_flops,
)
from mmmotionmae.apis.cost.network import Size, Tokens, build_on_meta
from mmmotionmae.models.utils.tubelet import Grid, token_grid

NUM_CLASSES = 174  # as in Something-Something V2
# Of ViT-H VideoMAE's decoder.
SIZES = {
    'small': Size(384, 12, 6, 192, 3),
    'base': Size(768, 12, 12, 384, 6),
    'large': Size(1024, 24, 16, 512, 8),
    'huge': Size(1280, 32, 16, 640, 8, decoder_depth=12),
}


@dataclass(frozen=True)
class Setup:
    """What all that are measured have in common.

    Attributes:
        size: Sizes of the networks.
        batch_size: Clips B of a step.
        num_frames: Frames T of a clip.
        img_size: Height and width of a frame, in pixels.
        device: ``'cpu'`` or ``'cuda'``.
        num_threads: Threads of PyTorch; None: PyTorch's default.
        mask_ratio: Share of the places of a frame that are masked.
        checkout: Folder of the official VideoMAE code, if there is one.
        hf_attention: Attention of transformers, ``'sdpa'`` or ``'eager'``.
    """

    size: Size
    batch_size: int = 2
    num_frames: int = 16
    img_size: int = 224
    device: str = 'cpu'
    num_threads: int | None = None
    mask_ratio: float = 0.9
    checkout: str | None = None
    hf_attention: str = 'sdpa'

    @property
    def grid(self) -> Grid:
        """(t, h, w): slots, rows and columns of tokens."""
        return token_grid(
            self.num_frames,
            self.img_size,
            self.img_size,
            self.size.tubelet_size,
            self.size.patch_size,
        )

    @property
    def num_masked(self) -> int:
        """Masked places of a frame; rounded down, as VideoMAE does."""
        _, rows, columns = self.grid
        return int(self.mask_ratio * rows * columns)

    @property
    def tokens(self) -> tuple[int, int]:
        """L and V."""
        slots, rows, columns = self.grid
        places = rows * columns
        return slots * places, slots * (places - self.num_masked)


@dataclass(frozen=True)
class Batch:
    """The input of one round.

    Attributes:
        frames: (B, 3, T, H, W), uint8, on the device.
        mask: (B, L), bool, True = masked; on the device.
        samples: One for each clip, with its mask and a label; on the host, as
            a loader leaves them.
    """

    frames: Tensor
    mask: Tensor
    samples: list[ActionDataSample]

    @property
    def data(self) -> dict[str, Any]:
        """The same as a data loader of MMAction2 gives it."""
        inputs = [clip[None] for clip in self.frames]
        return dict(inputs=inputs, data_samples=self.samples)


def draw_batch(setup: Setup, seed: int) -> Batch:
    """Random frames, tube masks and labels; the same for the same seed."""
    random = torch.Generator().manual_seed(seed)
    side, clips = setup.img_size, setup.batch_size
    frames = torch.randint(
        256,
        (clips, 3, setup.num_frames, side, side),
        dtype=torch.uint8,
        generator=random,
    )
    slots, rows, columns = setup.grid
    order = torch.rand(clips, rows * columns, generator=random).argsort(dim=1)
    mask = (order < setup.num_masked).repeat(1, slots)  # alike in all slots
    labels = torch.randint(NUM_CLASSES, (clips, 1), generator=random)
    samples = []
    for row, label in zip(mask, labels, strict=True):
        sample = ActionDataSample().set_gt_label(label)
        sample.set_field(row[None], 'mask')
        samples.append(sample)
    return Batch(frames.to(setup.device), mask.to(setup.device), samples)


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


@cache
def our_flops(key: str, setup: Setup) -> Flops:
    """FLOPs of the forward pass of one of :data:`OURS`, for each clip."""
    model = build_on_meta(Config(dict(model=our_config(key, setup))))
    tokens, visible = setup.tokens
    options = OURS[key].get('data_preprocessor', {})
    share = 1 - options.get('decoder_mask_ratio', 0)
    decoded = round((tokens - visible) * share)
    return pretraining_flops(model, Tokens(setup.grid, visible, decoded))


@cache
def recogniser_flops(name: str, setup: Setup) -> Flops:
    """Likewise of a classifier with this backbone."""
    model = build_on_meta(Config(dict(model=recogniser_config(name, setup))))
    return recognition_flops(model, Tokens(setup.grid, setup.tokens[0]))
