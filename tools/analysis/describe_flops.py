# Copyright (c) MotionMAE contributors. All rights reserved.
"""What a clip, a view or a frame costs."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from describe_model import Network
from mmaction.registry import TRANSFORMS
from mmengine.config import Config
from model_flops import Flops, encoder_work, pretraining_flops

from mmmotionmae.apis import UsageError

DAVIS = (480, 854)  # height and width of most of its frames
CROPS = dict(ThreeCrop=3, TenCrop=10)


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
    """What encoding a frame for label propagation costs.

    Attributes:
        shape: Height and width that it is resized to.
        tokens: Of what is encoded at a time: a frame, or a whole clip.
        flops: For each frame.
    """

    shape: tuple[int, int]
    tokens: int
    flops: int


def cost_of(network: Network) -> Cost | None:
    """FLOPs of a clip; None where the encoder is no ViT.

    Backward has two matrix products for each of the forward pass, of what is
    trained; and checkpointing computes blocks a second time.
    """
    size, tokens = network.size, network.tokens
    if size is None or tokens is None:
        return None
    if network.kind == 'pre-training':
        ratio = 1 - tokens.decoded / tokens.masked
        flops = pretraining_flops(
            size,
            tokens.total,
            tokens.visible,
            network.targets,
            'independent' if network.num_decoders > 1 else 'shared',
            network.attention,
            ratio,
            short_last_block=True,
        )
    else:
        encoder = encoder_work(size, tokens.total, tokens.total)
        flops = Flops(encoder, head=network.head_flops)
    blocks = encoder_work(
        replace(size, depth=network.trained_blocks), 0, tokens.visible
    )
    embedding = encoder_work(replace(size, depth=0), tokens.visible, 0)
    trained = blocks + embedding if network.embedding_trained else blocks
    again = blocks.total if network.encoder_cp else 0
    if network.decoder_cp:
        again += flops.decoder.total
    backward = 2 * (trained.total + flops.decoder.total + flops.head)
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
    """What a frame of 480x854 costs, resized as the config's test does it.

    Raises:
        UsageError: If the test reads no frames.
    """
    size, features = network.size, network.model.features
    assert size is not None
    height, width = shape = _resized(cfg)
    depth = features.block % size.depth + 1
    grid = (height // size.patch_size) * (width // size.patch_size)
    slots = 1
    if features.temporal == 'window':
        slots = features.num_frames // size.tubelet_size
    work = encoder_work(replace(size, depth=depth), slots * grid, slots * grid)
    # In a window, P clips of T frames each, P the frames of a tubelet, give
    # T frames; so a clip gives one frame for each of its slots.
    return FrameCost(shape, slots * grid, work.total // slots)


def _resized(cfg: Config) -> tuple[int, int]:
    pipeline: Any = cfg.test_dataloader.dataset.pipeline
    for config in pipeline:
        if config['type'] == 'LoadSequence':
            return TRANSFORMS.build(config).target_shape(*DAVIS)
    raise UsageError(f'{cfg.filename} has no LoadSequence in its test.')
