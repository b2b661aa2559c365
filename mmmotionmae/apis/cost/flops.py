# Copyright (c) MotionMAE contributors. All rights reserved.
"""FLOPs of matrix products of a network, counted by PyTorch without data.

A product of (n, k) and (k, m) has 2nkm; everything else (norms, GELU,
softmax, targets) is below a percent. Symbols: V visible tokens, M decoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from mmaction.registry import TRANSFORMS
from mmengine.config import Config
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ...models.utils.tubelet import TokenSplit
from ...utils.errors import UsageError
from .network import Network, Tokens, clip_on_meta, head_input

DAVIS = (480, 854)  # height and width of most of its frames
CROPS = dict(ThreeCrop=3, TenCrop=10)
HEAD_CLIPS = 2  # batch normalisation refuses one


@dataclass(frozen=True)
class Work:
    """FLOPs of some layers.

    Attributes:
        linear: Of linear layers, the projections of attention among them.
        attention: Of attention, for each pair of a query and a key.
    """

    linear: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        """Of both."""
        return self.linear + self.attention


@dataclass(frozen=True)
class Flops:
    """FLOPs of the forward pass of one clip.

    Attributes:
        encoder: Embedding and blocks.
        decoder: Embedding and blocks; of all decoders.
        head: Last layers.
    """

    encoder: Work
    decoder: Work = Work()
    head: int = 0

    @property
    def forward(self) -> int:
        """Of the forward pass."""
        return self.encoder.total + self.decoder.total + self.head

    @property
    def training(self) -> int:
        """Forward and backward.

        The backward pass has two products for each one of the forward pass.
        (One in the embedding, which passes no gradient on: not looked at.)
        What activation checkpointing computes again is not counted.
        """
        return 3 * self.forward


@dataclass(frozen=True)
class Cost:
    """FLOPs; a multiply-add is two.

    Attributes:
        flops: Of the forward pass of a clip.
        training: Of a training step, for each clip.
    """

    flops: Flops
    training: int


@dataclass(frozen=True)
class FrameCost:
    """FLOPs of encoding a frame for label propagation.

    Attributes:
        shape: Height and width that it is resized to.
        tokens: Of what is encoded at a time: a frame, or a whole clip.
        flops: For each frame.
    """

    shape: tuple[int, int]
    tokens: int
    flops: int


def count(function: Callable[..., Any], *args: Any) -> Work:
    """Count FLOPs while a function is called.

    Args:
        function: Of tensors on any device; on the meta device it takes no
            time.
        *args: Its arguments.
    """
    # Of the kernels of attention on a CPU, PyTorch knows only the plain one.
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        function(*args)
    products = counter.get_flop_counts()['Global']
    attention = products.get(torch.ops.aten.bmm, 0)
    return Work(sum(products.values()) - attention, attention)


def pretraining_flops(model: Any, tokens: Tokens) -> Flops:
    """Count a :class:`MotionMAE` on the meta device."""
    clip = clip_on_meta(model.backbone, tokens.grid)
    visible, decoded = (
        torch.empty((1, number), dtype=torch.long, device='meta')
        for number in (tokens.visible, tokens.decoded)
    )
    split = TokenSplit(visible, decoded, tokens.total)
    latent = torch.empty(
        (1, tokens.visible, model.backbone.embed_dims), device='meta'
    )
    decoding = torch.empty(
        (1, tokens.decoded, model.neck.embed_dims), device='meta'
    )
    return Flops(
        count(model.backbone, clip, split),
        count(model.neck, latent, split),
        count(model.head, dict.fromkeys(model.neck.targets, decoding)).total,
    )


def recognition_flops(model: Any, tokens: Tokens) -> Flops:
    """Count a recogniser, or a backbone in a module, on the meta device."""
    head = 0
    if getattr(model, 'cls_head', None) is not None:
        features = head_input(model.backbone, tokens.grid, HEAD_CLIPS)
        head = count(model.cls_head, features).total // HEAD_CLIPS
    clip = clip_on_meta(model.backbone, tokens.grid)
    return Flops(count(model.backbone, clip), head=head)


def cost_of(network: Network) -> Cost | None:
    """FLOPs of a clip; None where the encoder is no ViT.

    Backward has two matrix products for each of the forward pass, of what is
    trained; and checkpointing computes blocks a second time.
    """
    size, tokens = network.size, network.tokens
    if size is None or tokens is None:
        return None
    pretrains = network.kind == 'pre-training'
    counted = pretraining_flops if pretrains else recognition_flops
    flops = counted(network.model, tokens)
    visible = torch.empty((1, tokens.visible, size.embed_dims), device='meta')
    block = count(network.model.backbone.blocks[0], visible).total
    trained = network.trained_blocks * block
    again = trained if network.encoder_cp else 0
    if network.embedding_trained:
        trained += flops.encoder.total - size.depth * block
    if network.decoder_cp:
        again += flops.decoder.total
    backward = 2 * (trained + flops.decoder.total + flops.head)
    return Cost(flops, flops.forward + backward + again)


def views_of(cfg: Config) -> int | None:
    """Clips and crops that a video is tested with; None without a test."""
    pipeline = (cfg.get('test_dataloader') or {}).get('dataset', {})
    transforms = pipeline.get('pipeline')
    if not transforms:
        return None
    clips = [transform.get('num_clips', 1) for transform in transforms]
    crops = [CROPS.get(transform['type'], 1) for transform in transforms]
    return prod(clips) * prod(crops)


def frame_cost(cfg: Config, network: Network) -> FrameCost:
    """Cost of a frame of 480x854, resized as the config's test does it.

    Raises:
        UsageError: If the test reads no frames.
    """
    size, features = network.size, network.model.features
    assert size is not None
    height, width = shape = _resized(cfg)
    slots = number = 1
    if features.temporal == 'window':
        number = features.num_frames
        slots = number // size.tubelet_size
    grid = (height // size.patch_size) * (width // size.patch_size)

    def frames(numbers: Sequence[int]) -> Tensor:
        frame = (size.channels, height, width)
        return torch.empty((len(numbers), *frame), device='meta')

    work = count(lambda: list(features(frames, number)))
    return FrameCost(shape, slots * grid, work.total // number)


def _resized(cfg: Config) -> tuple[int, int]:
    pipeline: Any = cfg.test_dataloader.dataset.pipeline
    for config in pipeline:
        if config['type'] == 'LoadSequence':
            return TRANSFORMS.build(config).target_shape(*DAVIS)
    raise UsageError(f'{cfg.filename} has no LoadSequence in its test.')
