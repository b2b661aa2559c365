# Copyright (c) MotionMAE contributors. All rights reserved.
"""Folders of Hugging Face's `transformers`, and their weights alone.

Versions 4.49 to 5.5 know the biases ``q_bias`` and ``v_bias`` alone, 5.6 to
5.17 ``query.bias`` and ``value.bias`` alone, 5.18 to 5.23 either; what they do
not find they initialise anew, with no more than a warning. So both are
written, which all of them load bit-equal, and any of them is read.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ...utils.errors import CheckpointError
from ..specs import (
    Checkpoint,
    Hints,
    RawCheckpoint,
)
from .base import (
    BIAS_NAMES,
    BLOCK_NAMES,
    Format,
    count_blocks,
    name_blocks,
    translate,
)
from .huggingface_config import (
    DEFAULTS,
    add_settings,
    read_classes,
    read_levels,
    read_settings,
    write_config,
    write_preprocessor,
)
from .separate_qkv import join_qkv, split_qkv
from .videomae import VideoMAE, check_videomae_decoder, pixels

LAYERS = ('query', 'key', 'value')
ATTENTION = 'attention.attention'
# Of one block: the official name to that of `transformers`.
BLOCK_PARTS = {
    'norm1': 'layernorm_before',
    'attn.qkv': f'{ATTENTION}.qkv',
    'attn.proj': 'attention.output.dense',
    'norm2': 'layernorm_after',
    'mlp.fc1': 'intermediate.dense',
    'mlp.fc2': 'output.dense',
    'attn': ATTENTION,
}
EMBEDDING = 'embeddings.patch_embeddings.projection'


class HuggingFace(Format):
    """``VideoMAEForPreTraining``, ``...ForVideoClassification``, ``...Model``.

    Positions are not stored: they are always the sine-cosine table.

    There, the norm before the classifier and the last one of the decoder have
    an epsilon of 1e-5, whatever the config says; officially and here it is
    1e-6. What they give differs by a share of about 4.5e-6 over the variance
    of what they are given.
    The blocks of the decoder have 1e-6 here, there what the config says.
    """

    name = 'huggingface'
    title = 'Hugging Face VideoMAE'

    def kind_of(self, raw: RawCheckpoint) -> str | None:
        """Recognise a checkpoint of Hugging Face; None if it is none."""
        names, settings = raw.tensors, raw.settings
        embedding = names.get(f'{_prefix(names)}{EMBEDDING}.weight')
        if embedding is None or embedding.ndim != 5:
            return None
        if settings.get('model_type', 'videomae') != 'videomae' or any(
            'cls_token' in name for name in names
        ):
            return None
        if 'encoder_to_decoder.weight' in names:
            return 'pretraining'
        return 'classifier' if 'classifier.weight' in names else 'encoder'

    def read(self, raw: RawCheckpoint, hints: Hints) -> Checkpoint:
        """Read a checkpoint of Hugging Face."""
        kind = self.kind_of(raw)
        assert kind is not None
        settings = read_settings(raw)
        explained: tuple[str, ...] = ()
        if hints.encoder_only:
            kind = 'encoder'
            explained = (
                *('decoder.', 'classifier.', 'mask_token'),
                'encoder_to_decoder.weight',
            )
        hints = add_settings(hints, settings, raw.source)
        joined = join_qkv(raw, LAYERS)
        names = _names_in(joined, kind, settings)
        tensors = translate(joined, names, f'{self.title} ({kind})', explained)
        checkpoint = VideoMAE().read(
            RawCheckpoint(tensors, {}, raw.source), hints
        )
        decoder = checkpoint.decoder
        if decoder is not None:
            normalised = settings.get('norm_pix_loss', True)
            decoder = replace(
                decoder, targets=pixels('tubelet' if normalised else 'none')
            )
        eps = settings.get('layer_norm_eps', DEFAULTS['layer_norm_eps'])
        return replace(
            checkpoint,
            encoder=replace(checkpoint.encoder, norm_eps=float(eps)),
            decoder=decoder,
            classes=read_classes(settings, checkpoint),
            mean=read_levels(settings, 'image_mean', checkpoint.mean),
            std=read_levels(settings, 'image_std', checkpoint.std),
            format=self.name,
        )

    def write(self, checkpoint: Checkpoint) -> RawCheckpoint:
        """Write a checkpoint as Hugging Face has it."""
        self._check(checkpoint)
        spec, decoder = checkpoint.encoder, checkpoint.decoder
        official = VideoMAE().write(checkpoint).tensors
        names = _names(
            checkpoint.kind,
            '' if checkpoint.kind == 'encoder' else 'videomae.',
            spec.depth,
            0 if decoder is None else decoder.depth,
            spec.qkv_bias,
            spec.mean_pooling,
        )
        tensors = split_qkv(
            {names[name]: tensor for name, tensor in official.items()},
            LAYERS,
            keep_biases=True,
        )
        return RawCheckpoint(
            tensors={
                name: tensor
                for name, tensor in tensors.items()
                # 5.6 to 5.17 have one; it is 0 where it is missing.
                if not name.endswith('.key.bias')
            },
            settings=write_config(checkpoint)
            | dict(preprocessor=write_preprocessor(checkpoint)),
            source=checkpoint.source,
        )

    def _check(self, checkpoint: Checkpoint) -> None:
        """Refuse what `transformers` has no place for."""
        spec, decoder = checkpoint.encoder, checkpoint.decoder
        if spec.learnable_positions:
            raise self.refuse(
                checkpoint,
                'its positions were learned or interpolated, and there they '
                'are always the sine-cosine table',
            )
        if spec.layer_scale:
            raise self.refuse(
                checkpoint,
                'it scales its residual branches (gamma_1, gamma_2), and '
                'there they are not scaled',
            )
        if checkpoint.kind == 'encoder' and spec.mean_pooling:
            raise self.refuse(
                checkpoint,
                'its last norm follows the pooling (fc_norm), which '
                'VideoMAEModel does not have; write the whole classifier',
            )
        if decoder is None:
            return
        check_videomae_decoder(self, checkpoint)
        if not spec.qkv_bias:
            raise self.refuse(
                checkpoint,
                'only its decoder has biases of queries and values; the '
                'encoder alone can be written (--encoder-only)',
            )


def _prefix(names: Mapping[str, Tensor]) -> str:
    prefixed = f'videomae.{EMBEDDING}.weight' in names
    return 'videomae.' if prefixed else ''


def _names(
    kind: str,
    prefix: str,
    depth: int,
    decoder_depth: int,
    qkv_bias: bool,
    mean_pooling: bool,
) -> dict[str, str]:
    """Official names to those here, queries, keys and values joined."""
    official = 'encoder.' if kind == 'pretraining' else ''
    parts = {f'{official}patch_embed.proj': f'{prefix}{EMBEDDING}'}
    if mean_pooling:
        parts['fc_norm'] = 'fc_norm'
    else:
        parts[f'{official}norm'] = f'{prefix}layernorm'
    same: tuple[str, ...] = ()
    if kind == 'classifier':
        parts['head'] = 'classifier'
    elif kind == 'pretraining':
        same = ('encoder_to_decoder.weight', 'mask_token')
        parts |= {n: n for n in ('decoder.norm', 'decoder.head')}
    block = {}
    for name in (BLOCK_NAMES | (BIAS_NAMES if qkv_bias else {})).values():
        part, _, last = name.rpartition('.')
        block[name] = f'{BLOCK_PARTS[part]}.{last}'
    return (
        {name: name for name in same}
        | {
            f'{theirs}.{last}': f'{name}.{last}'
            for theirs, name in parts.items()
            for last in ('weight', 'bias')
        }
        | name_blocks(
            f'{official}blocks.', f'{prefix}encoder.layer.', depth, block
        )
        | name_blocks(
            'decoder.blocks.', 'decoder.decoder_layers.', decoder_depth, block
        )
    )


def _names_in(
    raw: RawCheckpoint, kind: str, settings: Mapping[str, Any]
) -> dict[str, str]:
    """The names that a checkpoint should have.

    Raises:
        CheckpointError: If our encoder or decoder cannot be so.
    """
    tensors, prefix = raw.tensors, _prefix(raw.tensors)
    mean_pooling = 'fc_norm.weight' in tensors
    if not mean_pooling and f'{prefix}layernorm.weight' not in tensors:
        raise CheckpointError(
            f'{raw.source} has no norm after its last block '
            "(use_mean_pooling=True in its config); MMAction2's encoder has "
            'one.'
        )
    first = f'{prefix}encoder.layer.0.{ATTENTION}.q_bias'
    qkv_bias = settings.get('qv_bias', settings.get('qkv_bias'))
    if qkv_bias is None:
        qkv_bias = first in tensors
    if kind == 'pretraining' and not qkv_bias:
        raise CheckpointError(
            f'The decoder of {raw.source} has no biases of queries and '
            'values, as ours has; the encoder alone can be read '
            '(--encoder-only).'
        )
    decoder_depth = count_blocks(tensors, 'decoder.decoder_layers.')
    return _names(
        kind,
        prefix,
        count_blocks(tensors, f'{prefix}encoder.layer.'),
        decoder_depth if kind == 'pretraining' else 0,
        bool(qkv_bias),
        mean_pooling,
    )
