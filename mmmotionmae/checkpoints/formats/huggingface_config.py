# Copyright (c) MotionMAE contributors. All rights reserved.
"""Config files beside the weights in a folder of Hugging Face."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...utils.errors import CheckpointError
from ..specs import Checkpoint, Hints, RawCheckpoint
from .videomae import DECODER, pixel_norm

CLASSES = dict(
    pretraining='VideoMAEForPreTraining',
    classifier='VideoMAEForVideoClassification',
    encoder='VideoMAEModel',
)

# What a config leaves out has the value that it has in `transformers`.
DEFAULTS = dict(
    image_size=224,
    num_frames=16,
    num_attention_heads=12,
    decoder_num_attention_heads=6,
    layer_norm_eps=1e-12,
)


def read_settings(raw: RawCheckpoint) -> dict[str, Any]:
    """The content of ``config.json``; empty if there is none."""
    if 'model_type' not in raw.settings:  # metadata of the weights alone
        return {}
    return DEFAULTS | raw.settings


def add_settings(
    hints: Hints, settings: Mapping[str, Any], source: str
) -> Hints:
    """Add what the config tells, where the user has said nothing.

    Raises:
        CheckpointError: If it tells of what our encoder cannot be.
    """
    size = settings.get('image_size')
    if isinstance(size, list):
        if len({*size}) > 1:
            raise CheckpointError(
                f'{source} is for frames of {" x ".join(map(str, size))} '
                "pixels; those of MMAction2's VisionTransformer are square."
            )
        size = size[0]
    activation = settings.get('hidden_act', 'gelu')
    if activation != 'gelu':
        raise CheckpointError(
            f"{source} has hidden_act {activation!r}; MMAction2's "
            "VisionTransformer has 'gelu' only."
        )
    return replace(
        hints,
        num_heads=hints.num_heads or settings.get('num_attention_heads'),
        decoder_num_heads=hints.decoder_num_heads
        or settings.get('decoder_num_attention_heads'),
        trained_num_frames=hints.trained_num_frames
        or settings.get('num_frames'),
        trained_img_size=hints.trained_img_size or size,
    )


def read_levels(
    settings: Mapping[str, Any], name: str, default: tuple[float, ...]
) -> tuple[float, ...]:
    """Mean or deviation of the pre-processor, in [0, 255] units."""
    values = settings.get('preprocessor', {}).get(name)
    if not isinstance(values, list):
        return default
    return tuple(round(255 * float(value), 6) for value in values)


def read_classes(
    settings: Mapping[str, Any], checkpoint: Checkpoint
) -> tuple[str, ...] | None:
    """Names of the classes; None if they only have numbers."""
    labels = settings.get('id2label') or {}
    names = tuple(str(labels[i]) for i in sorted(labels, key=int))
    if len(names) != checkpoint.num_classes or names == tuple(
        f'LABEL_{i}' for i in range(len(names))
    ):
        return None
    return names


def write_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The content of ``config.json``."""
    spec, decoder = checkpoint.encoder, checkpoint.decoder
    config: dict[str, Any] = dict(
        architectures=[CLASSES[checkpoint.kind]],
        model_type='videomae',
        image_size=spec.img_size,
        patch_size=spec.patch_size,
        num_channels=spec.in_channels,
        num_frames=spec.num_frames,
        tubelet_size=spec.tubelet_size,
        hidden_size=spec.embed_dims,
        num_hidden_layers=spec.depth,
        num_attention_heads=spec.num_heads,
        intermediate_size=_hidden(checkpoint, 'backbone.'),
        hidden_act='gelu',
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=spec.norm_eps,
        qkv_bias=spec.qkv_bias,
        use_mean_pooling=spec.mean_pooling,
    )
    if decoder is not None:
        config |= dict(
            decoder_hidden_size=decoder.embed_dims,
            decoder_num_hidden_layers=decoder.depth,
            decoder_num_attention_heads=decoder.num_heads,
            decoder_intermediate_size=_hidden(checkpoint, DECODER),
            norm_pix_loss=pixel_norm(decoder) == 'tubelet',
        )
    if checkpoint.num_classes is not None:
        classes = checkpoint.classes or tuple(
            f'LABEL_{i}' for i in range(checkpoint.num_classes)
        )
        config |= dict(
            id2label={str(i): name for i, name in enumerate(classes)},
            label2id={name: i for i, name in enumerate(classes)},
        )
    return config


def _hidden(checkpoint: Checkpoint, prefix: str) -> int:
    name = f'{prefix}blocks.0.mlp.layers.0.0.weight'
    return len(checkpoint.tensors[name])


def write_preprocessor(checkpoint: Checkpoint) -> dict[str, Any]:
    """The content of ``preprocessor_config.json``."""
    size = checkpoint.encoder.img_size
    return dict(
        image_processor_type='VideoMAEImageProcessor',
        do_resize=True,
        size=dict(shortest_edge=size),
        resample=2,  # bilinear
        do_center_crop=True,
        crop_size=dict(height=size, width=size),
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=[round(value / 255, 9) for value in checkpoint.mean],
        image_std=[round(value / 255, 9) for value in checkpoint.std],
    )
