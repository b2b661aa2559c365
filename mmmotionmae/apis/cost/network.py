# Copyright (c) MotionMAE contributors. All rights reserved.
"""The network of a config, and what decides what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...datasets.wrappers import transforms_of
from ...models import LabelPropagation, MotionMAE, ReconstructionTarget
from ...models.utils.transformer import CrossAttentionBlock, FusedBlock
from ...models.utils.tubelet import Grid
from ...utils.errors import UsageError

# Names of the parts of MMAction2's models.
PARTS = dict(
    encoder=('backbone',),
    decoder=('neck',),
    heads=('head', 'cls_head', 'roi_head'),
)


@dataclass(frozen=True)
class Size:
    """Sizes of a network.

    Attributes:
        embed_dims: Width of the encoder.
        depth: Blocks of the encoder.
        num_heads: Attention heads of the encoder.
        decoder_dims: Width of the decoder.
        decoder_heads: Attention heads of the decoder.
        decoder_depth: Blocks of the decoder.
        patch_size: Height and width of a tubelet, in pixels.
        tubelet_size: Frames of a tubelet.
        mlp_ratio: Hidden width of the encoder's MLPs over its width.
        decoder_mlp_ratio: Likewise of the decoder.
        channels: Of a frame.
    """

    embed_dims: int
    depth: int
    num_heads: int
    decoder_dims: int
    decoder_heads: int
    decoder_depth: int = 4
    patch_size: int = 16
    tubelet_size: int = 2
    mlp_ratio: float = 4
    decoder_mlp_ratio: float = 4
    channels: int = 3

    @property
    def values(self) -> int:
        """Values of a tubelet."""
        return self.channels * self.tubelet_size * self.patch_size**2


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
class TargetSize:
    """Sizes of a target, for each token.

    Attributes:
        values: K that are predicted.
        source_bytes: Of those that it is taken from, once selected.
        made_bytes: Of those that the batch holds beside the frames.
    """

    values: int
    source_bytes: int
    made_bytes: int


@dataclass(frozen=True)
class Network:
    """Sizes that decide what a network costs.

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
        targets: Of each target.
        num_decoders: Decoders.
        attention: Of the decoder, ``'self'`` or ``'cross'``.
        decoder_cp: As for the encoder.
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
    targets: tuple[TargetSize, ...] = ()
    num_decoders: int = 0
    attention: str = 'self'
    decoder_cp: bool = False
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
        clip = clip_on_meta(vit, grid)
        facts['targets'] = tuple(
            _target_size(target, clip, prod(grid))
            for target in model.head.targets.values()
        )
        ratio = getattr(model.data_preprocessor, 'decoder_mask_ratio', 0)
        masked = _count_masked(cfg, grid)
        tokens = Tokens(grid, prod(grid) - masked, round(masked * (1 - ratio)))
        return Network('pre-training', tokens=tokens, **facts)
    tokens = Tokens(grid, prod(grid))
    if isinstance(model, LabelPropagation):
        return Network('segmentation', tokens=tokens, **facts)
    return Network('recognition', tokens=tokens, **facts)


class _ValuesOnCPU(TorchFunctionMode):
    """Tensors made of values stay tensors with values: somebody reads them.

    Stock blocks their drop path rates, distributions their parameters.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in (torch.linspace, torch.tensor, torch.as_tensor):
            options['device'] = 'cpu'
        return func(*args, **options)


def build_on_meta(cfg: Config) -> Any:
    """Build the model of a config on PyTorch's meta device.

    Returns:
        The model in training mode, with shapes, but no values. Where it is
        of a package that is not installed, its backbone alone, in an
        ``nn.Module``.

    Raises:
        UsageError: If there is none, or it cannot be built.
    """
    if not cfg.get('model'):
        raise UsageError(
            f'{cfg.filename} has no model: name a config that could be '
            'trained or tested, not a part of one.'
        )
    kind = cfg.model.type
    known = not isinstance(kind, str) or MODELS.get(kind) is not None
    try:
        with torch.device('meta'), _ValuesOnCPU():
            if known or not cfg.model.get('backbone'):
                return MODELS.build(cfg.model).train()
            model = nn.Module()
            model.backbone = MODELS.build(cfg.model.backbone)
            return model.train()
    except Exception as error:
        raise UsageError(
            f'The model of {cfg.filename} cannot be built: '
            f'{type(error).__name__}: {error}'
        ) from error


def clip_on_meta(vit: Any, grid: Grid) -> Tensor:
    """A clip with this token grid, (1, C, T, H, W), without values."""
    conv = vit.patch_embed.projection
    size = [n * part for n, part in zip(grid, conv.kernel_size, strict=True)]
    return torch.empty((1, conv.in_channels, *size), device='meta')


def head_input(vit: Any, grid: Grid, num_clips: int) -> Tensor:
    """Shape of what a classifier gets of clips with this token grid."""
    shape: tuple[int, ...] = (num_clips, vit.embed_dims)
    if vit.return_feat_map:
        shape = (*shape, *grid)
    return torch.empty(shape, device='meta')


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
        num_decoders=len(decoders),
        attention=(
            'cross' if isinstance(block, CrossAttentionBlock) else 'self'
        ),
        decoder_cp=decoders[0].with_cp,
    )


def _target_size(
    target: ReconstructionTarget, clip: Tensor, num_tokens: int
) -> TargetSize:
    frames = clip.to(torch.uint8)
    try:
        video = target.video(frames)
    except ValueError:  # the loader has to make it: floats, one for each value
        wide = target.num_values * torch.float32.itemsize
        return TargetSize(target.num_values, wide, wide)
    made = 0 if video is frames else video.numel() * video.element_size()
    return TargetSize(
        target.num_values,
        target.num_values * video.element_size(),
        made // num_tokens,
    )


def _is_trained(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def _count_masked(cfg: Config, grid: Grid) -> int:
    """Masked tokens of a clip, as the masking transform draws them."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset', {})
    for config in transforms_of(dataset):
        if config['type'].endswith('Masking'):
            return int(TRANSFORMS.build(config).sample(grid).sum())
    raise UsageError(
        f'{cfg.filename} has no masking transform (TubeMasking, '
        'RandomMasking, FrameMasking) in its training pipeline.'
    )
