# Copyright (c) MotionMAE contributors. All rights reserved.
"""From a checkpoint to a model, or to a description."""

from dataclasses import replace

from mmaction.registry import MODELS
from mmengine.registry import DefaultScope
from torch import nn

from .formats import FORMATS
from .specs import Checkpoint, model_config
from .strict import load_strictly


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


def describe_checkpoint(checkpoint: Checkpoint) -> str:
    """Describe a checkpoint in a few lines.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
    """
    spec, decoder = checkpoint.encoder, checkpoint.decoder
    form = FORMATS.get(checkpoint.format)
    norm = 'averaged, then normalised' if spec.mean_pooling else 'normalised'
    lines = [
        f'{checkpoint.source}: {form.title if form else "?"}, '
        f'{checkpoint.kind}',
        f'encoder: {spec.depth} blocks, width {spec.embed_dims}, '
        f'{spec.num_heads} heads; tokens {norm}',
        f'clips: {spec.num_frames} frames of {spec.img_size} x '
        f'{spec.img_size}, in tubelets of {spec.tubelet_size} x '
        f'{spec.patch_size} x {spec.patch_size}: {spec.num_tokens} tokens',
        'positions: '
        + ('learned, or interpolated' if spec.learnable_positions else 'sine')
        + ('; layer scale' if spec.layer_scale else '')
        + ('' if spec.qkv_bias else '; no bias of queries and values'),
    ]
    if decoder is not None:
        lines.append(
            f'decoder: {decoder.depth} blocks, width {decoder.embed_dims}, '
            f'{decoder.num_heads} heads, {decoder.sharing}, '
            f'{decoder.attention}-attention; predicts '
            f'{" and ".join(decoder.targets)}'
        )
    if checkpoint.num_classes is not None:
        named = '' if checkpoint.classes is None else ', with their names'
        lines.append(f'classes: {checkpoint.num_classes}{named}')
    count = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    lines.append(
        f'weights: {count / 1e6:.1f} M in {len(checkpoint.tensors)} tensors'
    )
    return '\n'.join(lines)
