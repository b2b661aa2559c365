# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files of MMAction2: its model zoo's, and what this package trains."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ...models.targets import DEFAULT_TARGETS, resolve_targets
from ...utils.errors import CheckpointError
from ...utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..metadata import part_of_settings, read_model_config
from ..specs import (
    BALANCE,
    Checkpoint,
    DecoderSpec,
    Hints,
    RawCheckpoint,
    model_config,
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
    translate,
)

DECODERS = 'neck.decoders.'
PREDICTORS = 'head.predictors.'
TARGETS = 'targets.'  # those that have weights, teachers
CLASSIFIER = 'cls_head.fc_cls.'


class MMAction(Format):
    """``backbone.`` with ``neck.`` and ``head.``, ``cls_head.`` or nothing.

    Or the names of the backbone alone, without prefix. What tensors do not
    tell is read from the config that is kept in ``meta``; as data, it is not
    run. Positions that are missing are the sine-cosine table.
    """

    name = 'mmaction'
    title = 'MMAction2'

    def kind_of(self, raw: RawCheckpoint) -> str | None:
        """Recognise a checkpoint of MMAction2; None if it is none."""
        names = raw.tensors
        prefix = _prefix(names)
        if f'{prefix}blocks.0.attn.qkv.weight' not in names:
            return None
        if f'{prefix}patch_embed.projection.weight' not in names:
            return None
        if any(name.startswith(DECODERS) for name in names):
            return 'pretraining'
        if any(name.startswith('cls_head.') for name in names):
            return 'classifier'
        return 'encoder'

    def read(self, raw: RawCheckpoint, hints: Hints) -> Checkpoint:
        """Read a checkpoint of MMAction2."""
        kind = 'encoder' if hints.encoder_only else self.kind_of(raw)
        assert kind is not None
        prefix = _prefix(raw.tensors)
        names = _encoder_names(raw.tensors, prefix)
        explained = [n for n in raw.tensors if n.startswith(BALANCE)]
        if hints.encoder_only and prefix:
            explained = [n for n in raw.tensors if not n.startswith(prefix)]
        if kind == 'pretraining':
            names |= _decoder_names(raw.tensors)
        elif kind == 'classifier':
            names |= _classifier_names(raw)
        tensors = translate(
            raw, names, f'an {self.title} checkpoint ({kind})', explained
        )
        model = read_model_config(raw.settings)
        backbone = part_of_settings(model, 'backbone')
        if backbone:
            hints = replace(
                hints,
                num_heads=hints.num_heads or backbone.get('num_heads', 12),
                trained_num_frames=hints.trained_num_frames
                or backbone.get('num_frames'),
                trained_img_size=hints.trained_img_size
                or backbone.get('img_size'),
            )
        spec = encoder_spec(raw, tensors, hints)
        eps = part_of_settings(backbone, 'norm_cfg').get('eps', spec.norm_eps)
        preprocessor = part_of_settings(model, 'data_preprocessor')
        _add_tables(tensors, spec.num_tokens)
        return Checkpoint(
            kind=kind,
            tensors=tensors,
            encoder=replace(spec, norm_eps=eps),
            decoder=(
                _decoder_spec(raw, model, hints)
                if kind == 'pretraining'
                else None
            ),
            classes=_classes(raw.settings, tensors),
            mean=tuple(preprocessor.get('mean', IMAGENET_MEAN)),
            std=tuple(preprocessor.get('std', IMAGENET_STD)),
            source=raw.source,
            format=self.name,
        )

    def write(self, checkpoint: Checkpoint) -> RawCheckpoint:
        """Write a checkpoint as MMAction2 has it."""
        meta: dict[str, Any] = dict(model=model_config(checkpoint))
        if checkpoint.classes is not None:
            meta['dataset_meta'] = dict(classes=list(checkpoint.classes))
        return RawCheckpoint(
            tensors=dict(checkpoint.tensors),
            settings=dict(meta=meta),
            source=checkpoint.source,
        )


def _prefix(names: Mapping[str, Tensor]) -> str:
    return 'backbone.' if any(n.startswith('backbone.') for n in names) else ''


def _add_tables(tensors: dict[str, Tensor], num_tokens: int) -> None:
    """Add positions that a file lacks: what is not learned need not be."""
    widths = {'backbone.': 'patch_embed.projection.bias'}
    widths |= {
        f'{DECODERS}{name}.': 'norm.bias' for name in _parts(tensors, DECODERS)
    }
    for prefix, name in widths.items():
        width = len(tensors[f'{prefix}{name}'])
        if f'{prefix}pos_embed' not in tensors:
            table = position_table(num_tokens, width)
            tensors[f'{prefix}pos_embed'] = table


def _layer(name: str) -> list[str]:
    return [f'{name}.weight', f'{name}.bias']


def _encoder_names(names: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    norm = 'norm' if f'{prefix}norm.weight' in names else 'fc_norm'
    outer = _layer('patch_embed.projection')
    outer += _layer(norm) if f'{prefix}{norm}.weight' in names else []
    outer += ['pos_embed'] if f'{prefix}pos_embed' in names else []
    blocks = f'{prefix}blocks.'
    return {f'backbone.{name}': f'{prefix}{name}' for name in outer} | (
        name_blocks(
            'backbone.blocks.',
            blocks,
            count_blocks(names, blocks),
            _block_names(names, blocks),
        )
    )


def _block_names(names: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    found = [*BLOCK_NAMES]
    for optional in (BIAS_NAMES, SCALE_NAMES):
        if any(f'{prefix}0.{name}' in names for name in optional):
            found += optional
    return {name: name for name in found}


def _decoder_names(names: Mapping[str, Tensor]) -> dict[str, str]:
    found = []
    for decoder in _parts(names, DECODERS):
        prefix = f'{DECODERS}{decoder}.'
        if f'{prefix}embed.weight' in names:
            outer = ['embed.weight', 'mask_token', *_layer('norm')]
            outer += ['pos_embed'] if f'{prefix}pos_embed' in names else []
            found += [f'{prefix}{name}' for name in outer]
            blocks = f'{prefix}blocks.'
            found += name_blocks(
                blocks,
                blocks,
                count_blocks(names, blocks),
                _block_names(names, blocks),
            )
        else:  # of cross-attention
            found += [name for name in names if name.startswith(prefix)]
    found += [name for name in names if name.startswith(TARGETS)]
    for target in _parts(names, PREDICTORS):
        found += _layer(f'{PREDICTORS}{target}')
    return {name: name for name in found}


def _parts(names: Mapping[str, Tensor], prefix: str) -> list[str]:
    """The next word of all names that begin so."""
    return sorted(
        {n.removeprefix(prefix).split('.')[0] for n in names if prefix in n}
    )


def _classifier_names(raw: RawCheckpoint) -> dict[str, str]:
    head = {n for n in raw.tensors if n.startswith('cls_head.')}
    layer = _layer(CLASSIFIER[:-1])
    if head != {*layer}:
        raise CheckpointError(
            f'{raw.source} has a head that is not one linear layer '
            f'({", ".join(sorted(head)[:4])}); the encoder alone can be read '
            '(--encoder-only).'
        )
    return {name: name for name in layer}  # always in this order


def _decoder_spec(
    raw: RawCheckpoint, model: dict[str, Any], hints: Hints
) -> DecoderSpec:
    neck = part_of_settings(model, 'neck')
    decoders = _parts(raw.tensors, DECODERS)
    prefix = f'{DECODERS}{decoders[0]}.'
    width = raw.tensors[f'{prefix}mask_token'].shape[-1]
    hidden = raw.tensors[f'{prefix}blocks.0.mlp.layers.0.0.weight'].shape[0]
    heads = hints.decoder_num_heads
    if neck:
        heads = heads or neck.get('num_heads', 6)
    return DecoderSpec(
        embed_dims=width,
        depth=count_blocks(raw.tensors, f'{prefix}blocks.'),
        num_heads=count_heads(width, heads, '--decoder-num-heads', raw.source),
        mlp_ratio=hidden / width,
        sharing='shared' if decoders == ['shared'] else 'independent',
        attention='self'
        if f'{prefix}embed.weight' in raw.tensors
        else 'cross',
        targets=_targets(raw, model),
    )


def _targets(
    raw: RawCheckpoint, model: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The configs of the targets that there are predictors of."""
    found = _parts(raw.tensors, PREDICTORS)
    parts = {
        part: part_of_settings(model, part)
        for part in ('head', 'neck', 'data_preprocessor')
    }
    try:
        known = resolve_targets(
            part_of_settings(model, 'targets') or None, **parts
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f'The targets in the config of {raw.source} make no sense: '
            f'{error} The encoder alone can be read (--encoder-only).'
        ) from error
    known |= {n: c for n, c in DEFAULT_TARGETS.items() if n not in known}
    for name in found:
        # A name, not the path of some code to be imported.
        if not str(known.get(name, {}).get('type', '')).isidentifier():
            raise CheckpointError(
                f'{raw.source} predicts {name!r}, but its config has no '
                'target of that name and a type by its name; the encoder '
                'alone can be read (--encoder-only).'
            )
    return {name: dict(known[name]) for name in known if name in found}


def _classes(
    settings: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[str, ...] | None:
    meta = part_of_settings(part_of_settings(settings, 'meta'), 'dataset_meta')
    classes = meta.get('classes') or meta.get('CLASSES') or ()
    weight = tensors.get(f'{CLASSIFIER}weight')
    if weight is None or len(classes) != len(weight):
        return None
    return tuple(str(name) for name in classes)
