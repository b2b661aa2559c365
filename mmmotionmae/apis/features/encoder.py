# Copyright (c) MotionMAE contributors. All rights reserved.
"""From clips to features, with the encoder of a model or checkpoint.

Shapes: N videos, V views (clips and crops) of each, C channels, T frames, H W
size; D width.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmengine.device import get_device
from torch import Tensor, nn

from ...checkpoints import build_model, read_checkpoint
from ...models.backbones import video_vit_of
from ...models.utils.tubelet import token_grid
from ...models.utils.vit_features import (
    POOLINGS,
    fuse_stock_blocks,
    number_of_block,
    pool_tokens,
    read_blocks,
    trained_grid,
    tubelet_of,
)
from ...utils.choices import FEATURE_TYPES, VIEWS
from ...utils.errors import UsageError
from ...utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from ...utils.provenance import unwrap
from ...utils.transfer import wants_pinned


@dataclass(frozen=True)
class Encoder:
    """An encoder, and how its clips are normalised.

    Attributes:
        vit: In any mode, on any device.
        mean: Of each channel, in [0, 255] units; None: not normalised.
        std: Likewise.
        to_rgb: Whether it wants channels in reverse order.
    """

    vit: VisionTransformer
    mean: tuple[float, ...] | None = IMAGENET_MEAN
    std: tuple[float, ...] | None = IMAGENET_STD
    to_rgb: bool = False

    def make_preprocessor(self) -> ActionDataPreprocessor:
        """Normalisation of batches of its clips."""
        return ActionDataPreprocessor(
            self.mean, self.std, to_rgb=self.to_rgb, format_shape='NCTHW'
        )


def find_encoder(
    model: Any, load_options: dict[str, Any] | None = None
) -> Encoder:
    """The encoder of a model or checkpoint.

    Args:
        model: A model with a ``backbone``, the encoder itself, or the path of
            a checkpoint, see :func:`load_pretrained`.
        load_options: For a checkpoint, such as ``num_heads``.

    Raises:
        UsageError: If the encoder is no ``VisionTransformer`` of MMAction2.
        CheckpointError: If a checkpoint cannot be read.
        FileNotFoundError: If there is none.
    """
    if isinstance(model, (str, os.PathLike)):
        checkpoint = read_checkpoint(
            os.fspath(model), encoder_only=True, **load_options or {}
        )
        return Encoder(
            build_model(checkpoint, 'encoder'),
            tuple(checkpoint.mean),
            tuple(checkpoint.std),
        )
    if not isinstance(model, nn.Module):
        raise UsageError(
            f'model is a {type(model).__name__}; it must be a model or the '
            'path of a checkpoint.'
        )
    model = unwrap(model)
    vit = video_vit_of(model)
    if vit is None:
        encoder = getattr(model, 'backbone', model)
        raise UsageError(
            f'The encoder is a {type(encoder).__name__}; features are read '
            'from VisionTransformer of MMAction2, MotionMAEViT or others that '
            'are derived from it.'
        )
    preprocessor = getattr(model, 'data_preprocessor', None)
    if not isinstance(preprocessor, ActionDataPreprocessor):
        return Encoder(vit)
    mean, std = (
        _as_written(getattr(preprocessor, name, None))
        for name in ('mean', 'std')
    )
    return Encoder(vit, mean, std, preprocessor.to_rgb)


def _as_written(values: Tensor | None) -> tuple[float, ...] | None:
    """Values as a config has them: 123.675, not the float32 beside it."""
    if values is None:
        return None
    return tuple(float(f'{x:.7g}') for x in values.flatten().tolist())


AMP = dict(bf16=torch.bfloat16, fp16=torch.float16)


@dataclass(frozen=True)
class FeatureSettings:
    """Features to read from an encoder; see :func:`extract_features`.

    Raises:
        UsageError: If a setting is none of those that there are.
    """

    block: int | tuple[int, ...] = -1
    pooling: str = 'mean'
    final_norm: bool = True
    views: str = 'mean'
    dtype: str = 'float32'
    amp: str | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ('pooling', POOLINGS),
            ('views', VIEWS),
            ('dtype', FEATURE_TYPES),
            ('amp', (None, *AMP)),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(
                    f'{name} must be one of {", ".join(map(str, choices))}, '
                    f'not {getattr(self, name)!r}.'
                )

    def counted(self, vit: VisionTransformer) -> 'FeatureSettings':
        """With blocks that are counted from the first.

        Raises:
            UsageError: If the encoder has no such block.
        """
        if self.block == ():
            raise UsageError('No block is asked for.')
        try:
            if isinstance(self.block, int):
                return replace(self, block=number_of_block(vit, self.block))
            numbers = (number_of_block(vit, block) for block in self.block)
            return replace(self, block=tuple(numbers))
        except ValueError as error:
            raise UsageError(str(error)) from error


class ClipEncoder:
    """Makes rows of features of the views of videos.

    Args:
        encoder: Its blocks get the leaner forward pass of
            :func:`fuse_blocks`; it is moved to the device and put into
            evaluation mode.
        settings: With blocks counted from the first.
        num_frames: T.
        img_size: H and W.
        num_views: V.
        batch_size: Clips that are encoded at a time.
        device: Where. Defaults to a GPU, if there is one.

    Attributes:
        row_shape: Of the feature of a video.

    Raises:
        UsageError: If clips of this size do not divide evenly into tubelets,
            or for fp16 on a CPU.
    """

    def __init__(
        self,
        encoder: Encoder,
        settings: FeatureSettings,
        num_frames: int,
        img_size: int,
        num_views: int,
        batch_size: int,
        device: str | None = None,
    ) -> None:
        self.device = torch.device(device or get_device())
        if settings.amp == 'fp16' and self.device.type == 'cpu':
            raise UsageError('amp fp16 needs a GPU; use bf16 on a CPU.')
        self.vit = encoder.vit.to(self.device).eval()
        fuse_stock_blocks(self.vit)
        self.settings = settings
        self.num_views, self.batch_size = num_views, batch_size
        self._preprocessor = encoder.make_preprocessor().to(self.device)
        block = settings.block
        self._blocks = (block,) if isinstance(block, int) else block
        self.row_shape = self._row_shape(num_frames, img_size)

    def _row_shape(self, num_frames: int, img_size: int) -> tuple[int, ...]:
        tubelet = tubelet_of(self.vit)
        try:
            t, h, w = token_grid(num_frames, img_size, img_size, *tubelet)
        except ValueError as error:
            raise UsageError(str(error)) from error
        kept = dict(mean=(), space=(t,), time=(h, w), none=(t, h, w))
        return (
            *((self.num_views,) if self.settings.views == 'all' else ()),
            *(
                ()
                if isinstance(self.settings.block, int)
                else [len(self._blocks)]
            ),
            *kept[self.settings.pooling],
            self.vit.embed_dims,
        )

    @torch.no_grad()
    def __call__(self, videos: Sequence[Tensor | None]) -> np.ndarray:
        """Encode.

        Args:
            videos: N times uint8 (V, C, T, H, W), or None.

        Returns:
            (N, ...), of the dtype that is asked for; NaN in place of None.
        """
        rows = np.full(
            (len(videos), *self.row_shape), np.nan, self.settings.dtype
        )
        found = [i for i, video in enumerate(videos) if video is not None]
        if found:
            clips = torch.cat([videos[i] for i in found])  # type: ignore
            parts = [
                self._encode(part) for part in clips.split(self.batch_size)
            ]
            features = torch.cat(parts).unflatten(0, (-1, self.num_views))
            if self.settings.views == 'mean':
                features = features.mean(1)
            # What is too large for float16 becomes infinite, and is reported.
            with np.errstate(over='ignore'):
                rows[found] = features.cpu().numpy()
        return rows

    def _encode(self, clips: Tensor) -> Tensor:
        """(M, C, T, H, W) to (M, ...), float32."""
        if wants_pinned(self.device):
            clips = clips.pin_memory()
        batch = dict(inputs=list(clips), data_samples=None)
        inputs = self._preprocessor(batch)['inputs']
        settings = self.settings
        with torch.autocast(
            self.device.type,
            AMP.get(settings.amp or 'bf16'),
            enabled=settings.amp is not None,
        ):
            outputs, grid = read_blocks(self.vit, inputs, self._blocks)
        features = [
            pool_tokens(
                self.vit,
                outputs[block].float(),
                grid,
                settings.pooling,
                settings.final_norm,
            )
            for block in self._blocks
        ]
        if isinstance(settings.block, int):
            return features[0]
        return torch.stack(features, 1)

    def describe(self) -> dict[str, Any]:
        """Description of what the weights do not tell."""
        late = getattr(self.vit, 'fc_norm', None) is not None
        return dict(
            num_heads=self.vit.blocks[0].attn.num_heads,
            patch_size=self.vit.patch_size,
            grid=list(trained_grid(self.vit)),
            norm='after pooling' if late else 'before pooling',
        )
