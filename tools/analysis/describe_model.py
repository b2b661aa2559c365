# Copyright (c) MotionMAE contributors. All rights reserved.
"""What decides what the network of a config costs."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from describe_build import build_on_meta
from describe_head import measure_head
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import TRANSFORMS
from mmengine.config import Config
from model_sizes import Size
from torch import nn

from mmmotionmae.apis import UsageError
from mmmotionmae.models import LabelPropagation, MotionMAE
from mmmotionmae.models.utils.transformer import (
    CrossAttentionBlock,
    FusedBlock,
)
from mmmotionmae.models.utils.tubelet import Grid

# Names of the parts of MMAction2's models.
PARTS = dict(
    encoder=('backbone',),
    decoder=('neck',),
    heads=('head', 'cls_head', 'roi_head'),
)


@dataclass(frozen=True)
class Tokens:
    """Tokens of a clip.

    Attributes:
        grid: (t, h, w).
        visible: V that the encoder sees.
        decoded: M that are predicted; fewer than are masked where the
            decoder is masked, too.
    """

    grid: Grid
    visible: int
    decoded: int = 0

    @property
    def total(self) -> int:
        """L, of the grid."""
        return prod(self.grid)

    @property
    def masked(self) -> int:
        """Those that the encoder does not see."""
        return self.total - self.visible


@dataclass(frozen=True)
class Network:
    """What decides what a network costs.

    Attributes:
        kind: ``'pre-training'``, ``'recognition'``, ``'segmentation'`` (by
            label propagation, frozen) or ``'other'``: parameters only.
        model: On the meta device, in training mode.
        parameters: Of ``'encoder'``, ``'decoder'``, ``'heads'``, ``'total'``.
        trained: How many of them are.
        size: None where the encoder is no ViT.
        tokens: Likewise.
        fused: Whether the encoder's blocks are ours.
        trained_blocks: Blocks of the encoder that gradients go through.
        embedding_trained: Whether they go through all of it.
        encoder_cp: Whether its activations are checkpointed.
        targets: What is predicted.
        num_decoders: Decoders.
        attention: Of the decoder, ``'self'`` or ``'cross'``.
        decoder_cp: As for the encoder.
        head_flops: Of a classifier's forward pass, for each clip.
        head_bytes: What it keeps for the backward pass, in float32.
        note: What could not be counted.
    """

    kind: str
    model: Any
    parameters: dict[str, int]
    trained: int
    size: Size | None = None
    tokens: Tokens | None = None
    fused: bool = True
    trained_blocks: int = 0
    embedding_trained: bool = False
    encoder_cp: bool = False
    targets: tuple[str, ...] = ()
    num_decoders: int = 0
    attention: str = 'self'
    decoder_cp: bool = False
    head_flops: int = 0
    head_bytes: int = 0
    note: str = ''


def read_network(cfg: Config) -> Network:
    """Build the network of a config and look at it.

    Raises:
        UsageError: If there is no model, it cannot be built, or a
            pre-training has no masking.
    """
    model = build_on_meta(cfg)
    facts: dict[str, Any] = dict(
        model=model,
        parameters=_count(model),
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
    )
    if type(model) is nn.Module:
        facts['note'] = (
            f'{cfg.model.type} is not installed: only its encoder is counted'
        )
    elif hasattr(model, 'roi_head'):
        facts['note'] = 'FLOPs and activations of the heads are not counted'
    vit = getattr(model, 'backbone', None)
    if not isinstance(vit, VisionTransformer):
        return Network('other', **facts)
    facts.update(_encoder_of(vit))
    grid = _grid_of(vit)
    if isinstance(model, MotionMAE):
        facts.update(_decoder_of(model.neck, facts['size']))
        ratio = getattr(model.data_preprocessor, 'decoder_mask_ratio', 0)
        masked = _count_masked(cfg, grid)
        tokens = Tokens(grid, prod(grid) - masked, round(masked * (1 - ratio)))
        return Network('pre-training', tokens=tokens, **facts)
    tokens = Tokens(grid, prod(grid))
    if isinstance(model, LabelPropagation):
        return Network('segmentation', tokens=tokens, **facts)
    if getattr(model, 'cls_head', None) is not None:
        facts.update(measure_head(model, grid))
    return Network('recognition', tokens=tokens, **facts)


def _count(model: nn.Module) -> dict[str, int]:
    counts = {
        part: sum(
            parameter.numel()
            for name in names
            if isinstance(getattr(model, name, None), nn.Module)
            for parameter in getattr(model, name).parameters()
        )
        for part, names in PARTS.items()
    }
    total = sum(parameter.numel() for parameter in model.parameters())
    return dict(counts, total=total)


def _grid_of(vit: Any) -> Grid:
    rows, columns = vit.grid_size
    return vit.pos_embed.shape[1] // (rows * columns), rows, columns


def _encoder_of(vit: Any) -> dict[str, Any]:
    conv, block = vit.patch_embed.projection, vit.blocks[0]
    trains = [_is_trained(block) for block in vit.blocks]
    whole = _is_trained(vit.patch_embed) or vit.pos_embed.requires_grad
    first = 0 if whole else (*trains, True).index(True)
    return dict(
        size=Size(
            vit.embed_dims,
            len(vit.blocks),
            block.attn.num_heads,
            decoder_dims=0,
            decoder_heads=0,
            decoder_depth=0,
            patch_size=conv.kernel_size[1],
            tubelet_size=conv.kernel_size[0],
            mlp_ratio=block.mlp.feedforward_channels / vit.embed_dims,
            channels=conv.in_channels,
        ),
        fused=isinstance(block, FusedBlock),
        trained_blocks=len(trains) - first,
        embedding_trained=whole,
        encoder_cp=bool(getattr(vit, 'with_cp', False)),
    )


def _decoder_of(neck: Any, size: Size) -> dict[str, Any]:
    decoders = list(neck.decoders.values())
    block = decoders[0].blocks[0]
    return dict(
        size=replace(
            size,
            decoder_dims=neck.embed_dims,
            decoder_heads=block.attn.num_heads,
            decoder_depth=len(decoders[0].blocks),
            decoder_mlp_ratio=(
                block.mlp.feedforward_channels / neck.embed_dims
            ),
        ),
        targets=tuple(neck.targets),
        num_decoders=len(decoders),
        attention=(
            'cross' if isinstance(block, CrossAttentionBlock) else 'self'
        ),
        decoder_cp=decoders[0].with_cp,
    )


def _is_trained(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def _count_masked(cfg: Config, grid: Grid) -> int:
    """Masked tokens of a clip, as the masking transform draws them."""
    pipeline = (cfg.get('train_dataloader') or {}).get('dataset', {})
    for config in pipeline.get('pipeline', ()):
        if config['type'].endswith('Masking'):
            return int(TRANSFORMS.build(config).sample(grid).sum())
    raise UsageError(
        f'{cfg.filename} has no masking transform (TubeMasking, '
        'RandomMasking, FrameMasking) in its training pipeline.'
    )
