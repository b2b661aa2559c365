# Copyright (c) MotionMAE contributors. All rights reserved.
"""An encoder for clips of another size than it was trained with."""

from dataclasses import replace

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..models.utils.tubelet import interpolate_positions
from ..utils.errors import CheckpointError
from .specs import Checkpoint, is_position_table

KERNEL = 'backbone.patch_embed.projection.weight'


def resize_checkpoint(
    checkpoint: Checkpoint,
    num_frames: int | None = None,
    img_size: int | None = None,
    tubelet_size: int | None = None,
) -> Checkpoint:
    """Fit a checkpoint to other clips.

    Positions are interpolated in space and time, see
    :func:`interpolate_positions`, those of the decoder, too. Another length
    of tubelets also stretches the kernel that embeds them, linearly in time,
    its sum kept: a clip that does not move has the same tokens as before.
    The decoder, whose last layers predict tubelets, is then left behind.

    Args:
        checkpoint: Of any kind.
        num_frames: Frames of a clip. Defaults to those that it has.
        img_size: Height and width of a frame, in pixels. Likewise.
        tubelet_size: Frames of a tubelet. Likewise.

    Returns:
        A checkpoint; the same one if nothing changes.

    Raises:
        CheckpointError: If frames or size do not divide evenly into tubelets.

    Examples:
        >>> import tempfile, torch
        >>> from mmmotionmae.checkpoints import (
        ...     describe_checkpoint, read_checkpoint, write_checkpoint)
        >>> from mmmotionmae.models import MotionMAEViT
        >>> vit = MotionMAEViT(
        ...     num_frames=4, embed_dims=192, depth=1, num_heads=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(vit.state_dict(), f'{folder}/a.pth')
        ...     checkpoint = read_checkpoint(f'{folder}/a.pth')
        ...     longer = resize_checkpoint(checkpoint, num_frames=16)
        ...     file = write_checkpoint(longer, f'{folder}/b.safetensors')
        ...     checkpoint = read_checkpoint(file)
        >>> print(describe_checkpoint(checkpoint).splitlines()[2])
        clips: 16 frames of 224 x 224, in tubelets of 2 x 16 x 16: 1568 tokens
    """
    old = checkpoint.encoder
    new = replace(
        old,
        num_frames=num_frames or old.num_frames,
        img_size=img_size or old.img_size,
        tubelet_size=tubelet_size or old.tubelet_size,
    )
    if new == old:
        return checkpoint
    if (
        min(new.num_frames, new.img_size, new.tubelet_size) < 1
        or new.num_frames % new.tubelet_size
        or new.img_size % new.patch_size
    ):
        raise CheckpointError(
            f'{new.num_frames} frames of {new.img_size} x {new.img_size} '
            f'pixels do not divide evenly into tubelets of {new.tubelet_size} '
            f'x {new.patch_size} x {new.patch_size}.'
        )
    tensors, kind = dict(checkpoint.tensors), checkpoint.kind
    if new.tubelet_size != old.tubelet_size:
        tensors[KERNEL] = _stretch(tensors[KERNEL], new.tubelet_size)
        if kind == 'pretraining':
            kind = 'encoder'
            tensors = {
                name: tensor
                for name, tensor in tensors.items()
                if name.startswith('backbone.')
            }
    for name, tensor in tensors.items():
        if name.endswith('pos_embed'):
            # Half precision has no bicubic interpolation on a CPU.
            table = interpolate_positions(tensor.float(), old.grid, new.grid)
            tensors[name] = table.to(tensor.dtype)
    positions = tensors['backbone.pos_embed']
    return replace(
        checkpoint,
        kind=kind,
        tensors=tensors,
        encoder=replace(
            new, learnable_positions=not is_position_table(positions)
        ),
        decoder=checkpoint.decoder if kind == 'pretraining' else None,
    )


def _stretch(kernel: Tensor, length: int) -> Tensor:
    """(D, C, T, P, P) to another T; the sum over T stays."""
    old = kernel.shape[2]
    flat = rearrange(kernel.float(), 'd c t h w -> d (c h w) t')
    flat = F.interpolate(flat, length, mode='linear') * (old / length)
    # Linear interpolation keeps the sum of a stretched kernel only nearly.
    total = rearrange(kernel.float().sum(2), 'd c h w -> d (c h w) 1')
    flat = flat + (total - flat.sum(-1, keepdim=True)) / length
    return rearrange(
        flat, 'd (c h w) t -> d c t h w', c=kernel.shape[1], h=kernel.shape[3]
    ).to(kernel.dtype)
