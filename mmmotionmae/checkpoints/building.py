# Copyright (c) MotionMAE contributors. All rights reserved.
"""From a checkpoint to a model."""

from dataclasses import replace
from typing import Any

from mmaction.registry import MODELS
from mmengine.registry import DefaultScope
from torch import nn

from .specs import Checkpoint
from .strict import load_strictly


def model_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The config of the model that a checkpoint is of.

    Returns:
        For ``'pretraining'`` a :class:`MotionMAE`, for ``'classifier'`` a
        ``Recognizer3D`` with a ``TimeSformerHead``; for ``'encoder'`` only
        the keys ``backbone`` and ``data_preprocessor``.
    """
    spec, decoder = checkpoint.encoder, checkpoint.decoder
    normalisation = dict(mean=[*checkpoint.mean], std=[*checkpoint.std])
    if decoder is not None:
        return dict(
            type='MotionMAE',
            data_preprocessor=dict(
                type='MotionMAEDataPreprocessor',
                frame_difference=dict(
                    type='FrameDifference', **decoder.frame_difference
                ),
                **normalisation,
            ),
            backbone=spec.to_config('MotionMAEViT'),
            neck=dict(
                type='MotionMAEDecoder',
                sharing=decoder.sharing,
                attention=decoder.attention,
                embed_dims=decoder.embed_dims,
                depth=decoder.depth,
                num_heads=decoder.num_heads,
                mlp_ratio=decoder.mlp_ratio,
            ),
            head=dict(
                type='MotionMAEHead',
                pixel_weight=float('pixel' in decoder.targets),
                motion_weight=float('motion' in decoder.targets),
                pixel_norm=decoder.pixel_norm,
                motion_norm=decoder.motion_norm,
            ),
        )
    config: dict[str, Any] = dict(
        data_preprocessor=dict(
            type='ActionDataPreprocessor',
            format_shape='NCTHW',
            **normalisation,
        ),
        backbone=spec.to_config(
            'FusedVisionTransformer' if spec.mean_pooling else 'MotionMAEViT'
        ),
    )
    if checkpoint.kind == 'classifier':
        config |= dict(
            type='Recognizer3D',
            backbone=spec.to_config('FusedVisionTransformer'),
            cls_head=dict(
                type='TimeSformerHead',
                num_classes=checkpoint.num_classes,
                in_channels=spec.embed_dims,
                average_clips='prob',
            ),
        )
    return config


def build_model(checkpoint: Checkpoint, part: str | None = None) -> nn.Module:
    """Build the model that a checkpoint is of, with its weights.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        part: ``'encoder'``: the encoder alone. None: all that there is.

    Returns:
        In evaluation mode: a :class:`MotionMAE`, a ``Recognizer3D``, or an
        encoder: :class:`MotionMAEViT`, or, with mean pooling,
        :class:`FusedVisionTransformer`.

    Raises:
        CheckpointError: If a tensor is missing or of another shape.
        ValueError: If ``part`` is none of the above.
    """
    if part not in (None, 'encoder'):
        raise ValueError(f"part must be 'encoder' or None, not {part!r}.")
    tensors = checkpoint.tensors
    if part == 'encoder' or checkpoint.kind == 'encoder':
        tensors = {
            name.removeprefix('backbone.'): tensor
            for name, tensor in tensors.items()
            if name.startswith('backbone.')
        }
        checkpoint = replace(checkpoint, kind='encoder', decoder=None)
        model = MODELS.build(model_config(checkpoint)['backbone'])
    else:
        # Parts of it are looked up in the scope that is the default.
        with DefaultScope.overwrite_default_scope('mmaction'):
            model = MODELS.build(model_config(checkpoint))
    load_strictly(model, tensors, checkpoint.source, needs='all')
    return model.eval()
