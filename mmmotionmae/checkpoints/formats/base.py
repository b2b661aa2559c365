# Copyright (c) MotionMAE contributors. All rights reserved.
"""Names and shapes of tensors, and errors about both, for all formats."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from math import isqrt

from torch import Tensor

from ...utils.errors import CheckpointError
from ..specs import (
    Checkpoint,
    EncoderSpec,
    Hints,
    RawCheckpoint,
    is_position_table,
    list_names,
)

# Widths of the models in use, whose heads no tensor tells: ViT-S, B, L, H, g,
# and the decoders of VideoMAE (192, 384, 512, 640 wide).
HEADS = {192: 3, 384: 6, 512: 8, 640: 8, 768: 12, 1024: 16, 1280: 16, 1408: 16}

# Of one block: MMAction2's name to that of VideoMAE and MAE.
BLOCK_NAMES = {
    **{
        f'{ours}.{kind}': f'{theirs}.{kind}'
        for ours, theirs in (
            ('norm1', 'norm1'),
            ('attn.proj', 'attn.proj'),
            ('norm2', 'norm2'),
            ('mlp.layers.0.0', 'mlp.fc1'),
            ('mlp.layers.1', 'mlp.fc2'),
        )
        for kind in ('weight', 'bias')
    },
    'attn.qkv.weight': 'attn.qkv.weight',
}
BIAS_NAMES = {'attn.q_bias': 'attn.q_bias', 'attn.v_bias': 'attn.v_bias'}
SCALE_NAMES = {'gamma_1': 'gamma_1', 'gamma_2': 'gamma_2'}


class Format(ABC):
    """A way to name the tensors of a masked video autoencoder.

    Attributes:
        name: What the user calls it by.
        title: What it is called in messages.
    """

    name: str
    title: str

    @abstractmethod
    def kind_of(self, raw: RawCheckpoint) -> str | None:
        """Recognise the kind of ``raw``, see :class:`Checkpoint`.

        Judged by a few names that every such file has. None if it is of
        another format.
        """

    @abstractmethod
    def read(self, raw: RawCheckpoint, hints: Hints) -> Checkpoint:
        """Translate from this format.

        Raises:
            CheckpointError: If a tensor is missing, left over, or cannot be
                held by MMAction2's encoder.
        """

    @abstractmethod
    def write(self, checkpoint: Checkpoint) -> RawCheckpoint:
        """Translate into this format.

        Raises:
            CheckpointError: If it cannot hold the checkpoint.
        """

    def refuse(self, checkpoint: Checkpoint, reason: str) -> CheckpointError:
        """The error of :meth:`write`."""
        return CheckpointError(
            f'{checkpoint.source or "The checkpoint"} cannot be written as '
            f'{self.title}: {reason}.'
        )


def count_blocks(names: Iterable[str], prefix: str) -> int:
    """Number of the blocks ``<prefix>0``, ``<prefix>1``, ..."""
    pattern = re.compile(rf'{re.escape(prefix)}(\d+)\.')
    found = {int(m[1]) for m in map(pattern.match, names) if m}
    return max(found, default=-1) + 1


def name_blocks(
    ours: str, theirs: str, depth: int, names: Mapping[str, str]
) -> dict[str, str]:
    """The names of all blocks.

    Args:
        ours: Prefix of the blocks here, such as ``backbone.blocks.``.
        theirs: Prefix in the other format.
        depth: Number of blocks.
        names: Of one block, such as ``BLOCK_NAMES``.

    Returns:
        Names here to names there.
    """
    return {
        f'{ours}{i}.{ours_name}': f'{theirs}{i}.{theirs_name}'
        for i in range(depth)
        for ours_name, theirs_name in names.items()
    }


def pick_block_names(
    names: Collection[str], prefix: str, source: str
) -> dict[str, str]:
    """Names of the parameters of a block, as the first block has them.

    Args:
        names: Of all tensors, with VideoMAE's names in a block.
        prefix: Of the blocks, such as ``encoder.blocks.``.
        source: For the error.

    Raises:
        CheckpointError: If attention is VideoMAE V2's with cosines.
    """
    picked = dict(BLOCK_NAMES)
    for optional in (BIAS_NAMES, SCALE_NAMES):
        if any(f'{prefix}0.{name}' in names for name in optional.values()):
            picked |= optional
    scale = next(
        (n for n in names if re.search(r'attn\.(logit_)?scale$', n)), 0
    )
    if scale:
        raise CheckpointError(
            f"{source} has cosine attention ({scale}), which MMAction2's "
            'VisionTransformer does not have.'
        )
    return picked


def translate(
    raw: RawCheckpoint,
    names: Mapping[str, str],
    title: str,
    explained: Collection[str] = (),
) -> dict[str, Tensor]:
    """Give tensors the names used here; account for each of them.

    Args:
        raw: The tensors.
        names: Names here to names there.
        title: Of the format, for the error.
        explained: Names, or prefixes ending in a dot, that may be left over.

    Raises:
        CheckpointError: If any is missing, or left over without explanation.
    """
    wanted = set(names.values())
    missing = sorted(wanted - set(raw.tensors))
    extra = sorted(
        name
        for name in set(raw.tensors) - wanted
        if not any(
            name == e or (e.endswith('.') and name.startswith(e))
            for e in explained
        )
    )
    if missing or extra:
        raise CheckpointError(
            f'{raw.source} looks like {title}, but '
            + ' and '.join(
                f'{verb} {list_names(found)}'
                for verb, found in (('lacks', missing), ('also holds', extra))
                if found
            )
            + '.'
        )
    return {ours: raw.tensors[theirs] for ours, theirs in names.items()}


def count_heads(width: int, hint: int | None, flag: str, source: str) -> int:
    """Attention heads of a width: as told, or as models in use have them.

    Raises:
        CheckpointError: If neither tells.
    """
    heads = hint or HEADS.get(width)
    if heads is None:
        raise CheckpointError(
            f'No tensor of {source} tells the number of attention heads, and '
            f'{width} is not the width of a model in use: say it ({flag}).'
        )
    if width % heads:
        raise CheckpointError(
            f'{source} is {width} wide, which {heads} attention heads do not '
            f'divide ({flag}).'
        )
    return heads


def encoder_spec(
    raw: RawCheckpoint, tensors: Mapping[str, Tensor], hints: Hints
) -> EncoderSpec:
    """The shape of an encoder, from its tensors.

    Args:
        raw: For the errors.
        tensors: With our names, ``backbone.`` before them; the positions may
            be missing.
        hints: What they do not tell. Without one, frames are 224 pixels high
            and wide, and clips without stored positions have 16 frames.

    Raises:
        CheckpointError: If they fit no cubic token grid.
    """
    kernel = tensors['backbone.patch_embed.projection.weight']
    width, channels, tubelet_size, patch_size, patch_width = kernel.shape
    if patch_size != patch_width:
        raise CheckpointError(
            f'{raw.source} has patches of {patch_size} x {patch_width} '
            "pixels; MMAction2's are square."
        )
    positions = tensors.get('backbone.pos_embed')
    num_frames, img_size = hints.trained_num_frames, hints.trained_img_size
    if positions is None:
        num_frames, img_size = num_frames or 16, img_size or 224
        learnable = False
    else:
        num_frames, img_size = _fit_grid(
            positions.shape[1], tubelet_size, patch_size, hints, raw.source
        )
        learnable = not is_position_table(positions)
    hidden = tensors['backbone.blocks.0.mlp.layers.0.0.weight'].shape[0]
    return EncoderSpec(
        embed_dims=width,
        depth=count_blocks(tensors, 'backbone.blocks.'),
        num_heads=count_heads(
            width, hints.num_heads, '--num-heads', raw.source
        ),
        mlp_ratio=hidden / width,
        patch_size=patch_size,
        tubelet_size=tubelet_size,
        in_channels=channels,
        img_size=img_size,
        num_frames=num_frames,
        qkv_bias='backbone.blocks.0.attn.q_bias' in tensors,
        learnable_positions=learnable,
        layer_scale='backbone.blocks.0.gamma_1' in tensors,
        mean_pooling='backbone.fc_norm.weight' in tensors,
    )


def _fit_grid(
    num_tokens: int,
    tubelet_size: int,
    patch_size: int,
    hints: Hints,
    source: str,
) -> tuple[int, int]:
    """Frames and size of a clip with so many tokens."""
    num_frames, img_size = hints.trained_num_frames, hints.trained_img_size
    if img_size is None:
        img_size = 224
        if num_frames is not None:
            slots = max(num_frames // tubelet_size, 1)
            img_size = isqrt(num_tokens // slots) * patch_size
    area = (img_size // patch_size) ** 2
    slots = num_tokens // area if area else 0
    found = slots * tubelet_size
    if slots * area != num_tokens or num_frames not in (None, found):
        raise CheckpointError(
            f'{source} has positions for {num_tokens} tokens, which is no '
            f'clip of {num_frames or "any number of"} frames of {img_size} x '
            f'{img_size} pixels in tubelets of {tubelet_size} x {patch_size} '
            f'x {patch_size}: say what it was trained with '
            '(--trained-num-frames, --trained-img-size).'
        )
    return found, img_size
