# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files of MAE-ST (https://github.com/facebookresearch/mae_st)."""

from dataclasses import replace
from math import isqrt

from ...utils.errors import CheckpointError
from ..specs import Checkpoint, Hints, RawCheckpoint
from .base import (
    Format,
    count_blocks,
    encoder_spec,
    name_blocks,
    pick_block_names,
    translate,
)
from .separate_qkv import join_qkv, split_qkv
from .videomae import VideoMAE

LAYERS = ('q', 'k', 'v')
SEPARATE = ('pos_embed_spatial', 'pos_embed_temporal')


class MAEST(Format):
    """``MaskedAutoencoderViT`` and ``VisionTransformer`` of MAE-ST.

    A file of pre-training is read as an encoder. Its decoder is not carried
    over: it sees all tokens and perhaps a class token, has learned positions
    and a bias in its first layer, and predicts fewer frames than it is given
    (``pred_t_dim``); :class:`MotionMAEDecoder` has none of these.

    A file of fine-tuning is read as a classifier with mean pooling, since its
    ``norm`` follows the pooling. Two things then differ. The official code
    averages all tokens but the first, even where that one is no class token,
    but a part of the clip; here it is averaged, too. And the class token,
    which the official scripts always add, takes part in attention: our
    encoder has none, so such a file is read on request alone
    (``drop_cls_token``), with other features than its own: a start for
    training, not the same model.

    Positions in space and in time are added up to one table. What is written
    is the layout of ``sep_pos_embed=False, cls_embed=False``.
    """

    name = 'mae_st'
    title = 'MAE-ST'

    def kind_of(self, raw: RawCheckpoint) -> str | None:
        """Recognise a checkpoint of MAE-ST; None if it is none."""
        names = raw.tensors
        if not {'patch_embed.proj.weight', 'blocks.0.attn.q.weight'} <= {
            *names
        }:
            return None
        return 'classifier' if 'head.weight' in names else 'encoder'

    def read(self, raw: RawCheckpoint, hints: Hints) -> Checkpoint:
        """Read a checkpoint of MAE-ST.

        Raises:
            CheckpointError: If it has a class token that is not to be left
                behind, or as in :class:`Format`.
        """
        fine_tuned = self.kind_of(raw) == 'classifier'
        kind = 'encoder' if hints.encoder_only else self.kind_of(raw)
        assert kind is not None
        joined = join_qkv(_join_positions(raw), LAYERS)
        explained = [
            name
            for name in joined.tensors
            if name.startswith('decoder_') or name == 'mask_token'
        ]
        if 'cls_token' in raw.tensors:
            if not hints.drop_cls_token:
                raise CheckpointError(
                    f"{raw.source} has a class token, which MMAction2's "
                    'VisionTransformer has not: without it, features differ '
                    'from those of the original (--drop-cls-token reads the '
                    'rest all the same).'
                )
            explained += ['cls_token', 'pos_embed_class']
        if hints.encoder_only:
            explained.append('head.')
        parts = {
            'patch_embed.projection': 'patch_embed.proj',
            'fc_norm' if fine_tuned else 'norm': 'norm',
        }
        names = {'backbone.pos_embed': 'pos_embed'}
        names |= {
            f'backbone.{ours}.{part}': f'{theirs}.{part}'
            for ours, theirs in parts.items()
            for part in ('weight', 'bias')
        }
        names |= name_blocks(
            'backbone.blocks.',
            'blocks.',
            count_blocks(joined.tensors, 'blocks.'),
            pick_block_names(joined.tensors, 'blocks.', raw.source),
        )
        if kind == 'classifier':
            names |= {
                f'cls_head.fc_cls.{part}': f'head.{part}'
                for part in ('weight', 'bias')
            }
        tensors = translate(joined, names, f'{self.title} ({kind})', explained)
        return Checkpoint(
            kind=kind,
            tensors=tensors,
            encoder=encoder_spec(raw, tensors, _add_grid(raw, hints)),
            source=raw.source,
            format=self.name,
        )

    def write(self, checkpoint: Checkpoint) -> RawCheckpoint:
        """Write a checkpoint as MAE-ST has it."""
        spec, kind = checkpoint.encoder, checkpoint.kind
        reason = ''
        if kind == 'pretraining':
            reason = (
                'its decoder is of another kind; the encoder alone can be '
                'written (--encoder-only)'
            )
        elif spec.layer_scale:
            reason = (
                'it scales its residual branches (gamma_1, gamma_2), and '
                'there they are not scaled'
            )
        elif kind == 'encoder' and spec.mean_pooling:
            reason = (
                'its last norm follows the pooling (fc_norm), which there '
                'only classifiers have; write the whole classifier'
            )
        elif kind == 'classifier' and not spec.mean_pooling:
            reason = 'it does not average its tokens, as classifiers do there'
        if reason:
            raise self.refuse(checkpoint, reason)
        written = VideoMAE().write(checkpoint)
        official = dict(written.tensors)
        official['pos_embed'] = checkpoint.tensors['backbone.pos_embed']
        tensors = split_qkv(official, LAYERS)
        return RawCheckpoint(
            tensors={
                name.replace('fc_norm.', 'norm.'): tensor
                for name, tensor in tensors.items()
            },
            settings=written.settings,
            source=checkpoint.source,
        )


def _join_positions(raw: RawCheckpoint) -> RawCheckpoint:
    """One table for all tokens and nothing else, called ``pos_embed``."""
    tensors = dict(raw.tensors)
    if {*SEPARATE} <= {*tensors}:
        space, time = (tensors.pop(name) for name in SEPARATE)
        table = time[:, :, None] + space[:, None]
        tensors['pos_embed'] = table.flatten(1, 2)
    elif 'pos_embed' in tensors and 'cls_token' in tensors:
        # The first is that of the class token.
        tensors['pos_embed'] = tensors['pos_embed'][:, 1:]
    return replace(raw, tensors=tensors)


def _add_grid(raw: RawCheckpoint, hints: Hints) -> Hints:
    """Frames and size, as told by the file, where the user does not."""
    tensors, settings = raw.tensors, raw.settings
    num_frames, img_size = settings.get('num_frames'), None
    if {*SEPARATE} <= {*tensors}:
        space, time = (tensors[name].shape[1] for name in SEPARATE)
        tubelet_size, patch_size = tensors['patch_embed.proj.weight'].shape[
            2:4
        ]
        num_frames = time * tubelet_size
        img_size = isqrt(space) * patch_size
    elif isinstance(settings.get('input_size'), int):
        img_size = settings['input_size']
    return replace(
        hints,
        trained_num_frames=hints.trained_num_frames or num_frames,
        trained_img_size=hints.trained_img_size or img_size,
    )
