# Copyright (c) MotionMAE contributors. All rights reserved.
"""The encoder of a model or of a checkpoint."""

import os
from dataclasses import dataclass
from typing import Any

from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from torch import Tensor, nn

from ...utils.errors import UsageError
from ...utils.provenance import unwrap

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


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
        from ...checkpoints import build_model, read_checkpoint

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
    vit = getattr(model, 'backbone', model)
    if not isinstance(vit, VisionTransformer):
        raise UsageError(
            f'The encoder is a {type(vit).__name__}; features are read from '
            'VisionTransformer of MMAction2, MotionMAEViT or others that '
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
    """123.675, say, and not the float32 next to it."""
    if values is None:
        return None
    return tuple(float(f'{x:.7g}') for x in values.flatten().tolist())
