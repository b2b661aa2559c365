# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files of the official VideoMAE and VideoMAE V2."""

from dataclasses import replace
from typing import Any

from einops import rearrange
from torch import Tensor

from ...utils.errors import CheckpointError
from ..specs import (
    Checkpoint,
    DecoderSpec,
    Hints,
    RawCheckpoint,
    is_position_table,
    position_table,
)
from .base import (
    BIAS_NAMES,
    BLOCK_NAMES,
    SCALE_NAMES,
    Format,
    count_blocks,
    count_heads,
    encoder_spec,
    name_blocks,
    pick_block_names,
    translate,
)

DECODER = 'neck.decoders.shared.'


class VideoMAE(Format):
    """Pre-training: ``encoder.``, ``decoder.``; fine-tuning: no prefix.

    Positions are stored only where they were learned; else they are the
    sine-cosine table. The pixels of a token are ordered (frame, row, column,
    channel), here (channel, frame, row, column): the rows of the last layer
    change places.

    An official pre-training file with learnable positions is refused: it has
    one position more than tokens, with which its own encoder cannot run.
    """

    name = 'videomae'
    title = 'official VideoMAE or VideoMAE V2'

    def kind_of(self, raw: RawCheckpoint) -> str | None:
        """Recognise a checkpoint of VideoMAE; None if it is none."""
        names = raw.tensors
        if 'encoder.patch_embed.proj.weight' in names:
            decoder = 'encoder_to_decoder.weight' in names
            return 'pretraining' if decoder else 'encoder'
        if (
            'patch_embed.proj.weight' in names
            and 'blocks.0.attn.qkv.weight' in names
            and not any('cls_token' in name for name in names)
        ):
            return 'classifier' if 'head.weight' in names else 'encoder'
        return None

    def read(self, raw: RawCheckpoint, hints: Hints) -> Checkpoint:
        """Read a checkpoint of VideoMAE.

        Raises:
            CheckpointError: If it was pre-trained with learnable positions,
                or as in :class:`Format`.
        """
        kind = self.kind_of(raw)
        assert kind is not None
        explained: tuple[str, ...] = ()
        if hints.encoder_only:
            kind = 'encoder'
            explained = (
                *('decoder.', 'head.', 'mask_token'),
                'encoder_to_decoder.weight',
            )
        prefix = 'encoder.' if _has(raw, 'encoder.') else ''
        names = _encoder_names(raw, prefix)
        if kind == 'pretraining':
            names |= _decoder_names(raw)
        elif kind == 'classifier':
            names |= _classifier_names()
        tensors = translate(raw, names, f'{self.title} ({kind})', explained)
        if prefix and 'backbone.pos_embed' in tensors:
            raise CheckpointError(
                f'{raw.source} was pre-trained with learnable positions, one '
                'more than there are tokens; the official encoder itself '
                'cannot run with these.'
            )
        hints = _add_settings(hints, raw.settings)
        spec = encoder_spec(raw, tensors, hints)
        tensors.setdefault(
            'backbone.pos_embed',
            position_table(spec.num_tokens, spec.embed_dims),
        )
        decoder = None
        if kind == 'pretraining':
            decoder = _finish_decoder(raw, tensors, hints, spec.num_tokens)
            rows = dict(p=spec.patch_size, q=spec.patch_size)
            rows |= dict(t=spec.tubelet_size, c=spec.in_channels)
            for part in ('weight', 'bias'):
                name = f'head.predictors.pixel.{part}'
                tensors[name] = rearrange(
                    tensors[name], '(t p q c) ... -> (c t p q) ...', **rows
                ).contiguous()
        return Checkpoint(
            kind=kind,
            tensors=tensors,
            encoder=spec,
            decoder=decoder,
            source=raw.source,
            format=self.name,
        )

    def write(self, checkpoint: Checkpoint) -> RawCheckpoint:
        """Write a checkpoint as VideoMAE has it."""
        spec, kind = checkpoint.encoder, checkpoint.kind
        prefix = 'encoder.' if kind == 'pretraining' else ''
        blocks = dict(BLOCK_NAMES)
        blocks |= BIAS_NAMES if spec.qkv_bias else {}
        blocks |= SCALE_NAMES if spec.layer_scale else {}
        names = _outer_names(prefix, spec.mean_pooling)
        names |= name_blocks(
            'backbone.blocks.', f'{prefix}blocks.', spec.depth, blocks
        )
        if spec.learnable_positions:
            if kind == 'pretraining':
                raise self.refuse(
                    checkpoint,
                    'its positions are not the sine-cosine table, and such '
                    'an encoder cannot run there; the encoder alone can be '
                    'written (--encoder-only)',
                )
            names['backbone.pos_embed'] = f'{prefix}pos_embed'
        tensors = dict(checkpoint.tensors)
        # Those of run_mae_pretraining.py, one of them spelt so.
        args: dict[str, Any] = dict(
            num_frames=spec.num_frames,
            input_size=spec.img_size,
            tubelet_size=spec.tubelet_size,
        )
        if kind == 'classifier':
            names |= _classifier_names()
        elif kind == 'pretraining':
            check_videomae_decoder(self, checkpoint)
            assert checkpoint.decoder is not None
            names |= _decoder_outer_names()
            names |= name_blocks(
                f'{DECODER}blocks.',
                'decoder.blocks.',
                checkpoint.decoder.depth,
                BLOCK_NAMES | BIAS_NAMES,
            )
            tensors |= pixels_last(checkpoint)
            args['normlize_target'] = (
                pixel_norm(checkpoint.decoder) == 'tubelet'
            )
        return RawCheckpoint(
            tensors={theirs: tensors[ours] for ours, theirs in names.items()},
            settings=dict(args=args),
            source=checkpoint.source,
        )


def pixels(norm: str = 'tubelet') -> dict[str, dict[str, Any]]:
    """The targets of a VideoMAE."""
    return dict(pixel=dict(type='PixelTarget', norm=norm))


def pixel_norm(decoder: DecoderSpec) -> str:
    """The norm of the pixels, which are all that it predicts."""
    return decoder.targets['pixel'].get('norm', 'tubelet')


def check_videomae_decoder(target: Format, checkpoint: Checkpoint) -> None:
    """Make sure that the decoder is VideoMAE's.

    Raises:
        CheckpointError: If it predicts motion or other pixels, or is built in
            another way.
    """
    decoder = checkpoint.decoder
    assert decoder is not None
    positions = (
        checkpoint.tensors[f'{DECODER}pos_embed']
        if (decoder.sharing == 'shared')
        else None
    )
    reason = ''
    kinds = {n: cfg.get('type') for n, cfg in decoder.targets.items()}
    if kinds != dict(pixel='PixelTarget'):
        reason = (
            f'it predicts {" and ".join(decoder.targets)}, not just pixels'
        )
    elif pixel_norm(decoder) not in ('tubelet', 'none'):
        reason = f'its pixels have the norm {pixel_norm(decoder)!r}'
    elif decoder.targets['pixel'].get('pool', 1) != 1:
        reason = 'its pixels are pooled'
    elif decoder.sharing != 'shared' or decoder.attention != 'self':
        reason = (
            f'its decoder has sharing={decoder.sharing!r} and '
            f'attention={decoder.attention!r}'
        )
    elif positions is None or not is_position_table(positions):
        reason = 'the positions of its decoder are not the sine-cosine table'
    if reason:
        raise target.refuse(
            checkpoint,
            f'{reason}; the encoder alone can be written (--encoder-only)',
        )


def pixels_last(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The last layer of the decoder, its rows in VideoMAE's order."""
    spec = checkpoint.encoder
    return {
        name: rearrange(
            checkpoint.tensors[name],
            '(c t p q) ... -> (t p q c) ...',
            c=spec.in_channels,
            t=spec.tubelet_size,
            p=spec.patch_size,
        ).contiguous()
        for name in (
            'head.predictors.pixel.weight',
            'head.predictors.pixel.bias',
        )
    }


def _has(raw: RawCheckpoint, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in raw.tensors)


def _outer_names(prefix: str, mean_pooling: bool) -> dict[str, str]:
    norm = 'fc_norm' if mean_pooling else 'norm'
    return {
        f'backbone.{ours}.{part}': f'{prefix}{theirs}.{part}'
        for ours, theirs in (
            ('patch_embed.projection', 'patch_embed.proj'),
            (norm, norm),
        )
        for part in ('weight', 'bias')
    }


def _encoder_names(raw: RawCheckpoint, prefix: str) -> dict[str, str]:
    names = _outer_names(prefix, 'fc_norm.weight' in raw.tensors)
    blocks = f'{prefix}blocks.'
    names |= name_blocks(
        'backbone.blocks.',
        blocks,
        count_blocks(raw.tensors, blocks),
        pick_block_names(raw.tensors, blocks, raw.source),
    )
    if f'{prefix}pos_embed' in raw.tensors:
        names['backbone.pos_embed'] = f'{prefix}pos_embed'
    return names


def _decoder_outer_names() -> dict[str, str]:
    names = {
        f'{DECODER}embed.weight': 'encoder_to_decoder.weight',
        f'{DECODER}mask_token': 'mask_token',
    }
    for part in ('weight', 'bias'):
        names[f'{DECODER}norm.{part}'] = f'decoder.norm.{part}'
        names[f'head.predictors.pixel.{part}'] = f'decoder.head.{part}'
    return names


def _decoder_names(raw: RawCheckpoint) -> dict[str, str]:
    blocks = 'decoder.blocks.'
    return _decoder_outer_names() | name_blocks(
        f'{DECODER}blocks.',
        blocks,
        count_blocks(raw.tensors, blocks),
        pick_block_names(raw.tensors, blocks, raw.source),
    )


def _classifier_names() -> dict[str, str]:
    return {
        f'cls_head.fc_cls.{part}': f'head.{part}'
        for part in ('weight', 'bias')
    }


def _finish_decoder(
    raw: RawCheckpoint, tensors: dict[str, Tensor], hints: Hints, length: int
) -> DecoderSpec:
    """Add the positions, which are not in the file."""
    width = tensors[f'{DECODER}mask_token'].shape[-1]
    tensors[f'{DECODER}pos_embed'] = position_table(length, width)
    hidden = tensors[f'{DECODER}blocks.0.mlp.layers.0.0.weight'].shape[0]
    return DecoderSpec(
        embed_dims=width,
        depth=count_blocks(tensors, f'{DECODER}blocks.'),
        num_heads=count_heads(
            width, hints.decoder_num_heads, '--decoder-num-heads', raw.source
        ),
        targets=pixels(
            'tubelet' if raw.settings.get('normlize_target', True) else 'none'
        ),
        mlp_ratio=hidden / width,
    )


def _add_settings(hints: Hints, settings: dict[str, Any]) -> Hints:
    """The arguments of the run, where the user has said nothing."""
    frames, size = settings.get('num_frames'), settings.get('input_size')
    segments = settings.get('num_segments', 1)  # clips joined to one
    if isinstance(frames, int) and hints.trained_num_frames is None:
        hints = replace(hints, trained_num_frames=frames * segments)
    if isinstance(size, int) and hints.trained_img_size is None:
        hints = replace(hints, trained_img_size=size)
    return hints
