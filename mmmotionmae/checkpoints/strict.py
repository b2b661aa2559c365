# Copyright (c) MotionMAE contributors. All rights reserved.
"""Load weights so that no part of a model is left random unnoticed."""

import re
from collections import OrderedDict
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mmaction.models.backbones.vit_mae import VisionTransformer
from mmengine.logging import print_log
from torch import Tensor, nn

from ..models.backbones import locate_encoder
from ..utils.errors import CheckpointError
from ..utils.finite import find_not_finite
from ..utils.provenance import unwrap
from .files import unwrap_tensors
from .messages import explain_shapes, suggest_remedy
from .metadata import part_of_settings, read_model_config
from .specs import BALANCE, is_position_table, list_names

# Parts that a checkpoint may hold in vain: they belong to another task.
OTHER_PARTS = (
    'neck',
    'head',
    'targets',
    'cls_head',
    'roi_head',
    'data_preprocessor',
)

_needs: ContextVar[str] = ContextVar('needs', default='all')


@contextmanager
def needed_parts(needs: str) -> Iterator[None]:
    """Say what every checkpoint must hold that is loaded inside.

    Args:
        needs: See :func:`load_strictly`.
    """
    token = _needs.set(needs)
    try:
        yield
    finally:
        _needs.reset(token)


def concerns(model: nn.Module) -> bool:
    """Tell whether a model is one to load strictly.

    It is if it has a video encoder, or says itself, as ``encoder_prefix``,
    where its encoder is.
    """
    return encoder_prefix(unwrap(model)) is not None


def encoder_prefix(model: nn.Module) -> str | None:
    """Prefix of the encoder's names in a model.

    Returns:
        Such as ``'backbone.'``; ``''`` if it is the model; None without one.
    """
    own = getattr(model, 'encoder_prefix', None)
    if own is not None:
        return str(own)
    found = locate_encoder(model)
    if found is None:
        return None
    return f'{found[0]}.' if found[0] else ''


def load_strictly(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    needs: str | None = None,
    prefix: str | None = None,
) -> None:
    """Load weights, or raise an error and load nothing.

    Every tensor of the encoder must be there, in its shape. Of other parts
    (decoder, heads) all tensors or none: what the model lacks altogether is
    passed over; what the checkpoint lacks altogether is allowed to start
    anew, if only the encoder is needed, and so is the final norm (``norm``
    of pre-training, ``fc_norm`` of fine-tuning with mean pooling) if it is
    the other one. A sine-cosine table of positions need not be there. What
    was loaded, and what was not, is logged.

    Args:
        model: To load into.
        tensors: Under the names of the model.
        source: File or folder, for messages.
        needs: ``'all'`` (for testing, or resuming), or ``'encoder'`` (for
            training). Defaults to what :func:`needed_parts` says, else
            ``'all'``.
        prefix: Of the encoder's names. Defaults to where a video encoder is.

    Raises:
        CheckpointError: If anything else is missing, left over or of another
            shape. It says which format the tensors look like.
    """
    model = unwrap(model)
    needs = needs or _needs.get()
    if prefix is None:
        prefix = encoder_prefix(model) or ''
    own = model.state_dict()
    shared = [name for name in own if name in tensors]
    missing = [
        name
        for name in own
        if name not in tensors and not name.endswith('num_batches_tracked')
    ]
    extra = [name for name in tensors if name not in own]
    anew = _explain_missing(missing, own, tensors, needs, prefix)
    unused = _explain_extra(extra, own, anew, prefix)
    missing = [name for name in missing if name not in anew]
    extra = [name for name in extra if name not in unused]
    problems = [
        f'{verb} {list_names(names, total)}'
        for verb, names, total in (
            ('lacks', missing, len(own)),
            ('also holds', extra, None),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f'{source} does not fit {_describe(model)}.'
            f'{suggest_remedy(tensors, source, prefix, missing)} '
            f'It {" and ".join(problems)}.'
        )
    wrong = [n for n in shared if tensors[n].shape != own[n].shape]
    if wrong:
        raise CheckpointError(
            explain_shapes(model, own, tensors, wrong, source, prefix)
        )
    weights = OrderedDict((name, tensors[name]) for name in shared)
    check_finite(weights, source)
    if hasattr(tensors, '_metadata'):  # versions of layers
        vars(weights)['_metadata'] = tensors._metadata
    model.load_state_dict(weights, strict=False)
    text = f'Loaded {len(shared)}/{len(own)} tensors of {_describe(model)}'
    text += f' from {source}.'
    if anew:
        text += f' Not in it, and left as they were: {list_names(anew)}.'
    if unused:
        text += f' Not used: {list_names(unused)}.'
    print_log(text, logger='current')


def check_finite(
    tensors: Mapping[str, Any],
    source: str,
    may_be_infinite: Container[str] = (),
) -> None:
    """Refuse weights of a training that went wrong.

    Args:
        tensors: The weights.
        source: File or folder, for the message.
        may_be_infinite: See :func:`find_not_finite`.

    Raises:
        CheckpointError: If a tensor holds NaN or infinity.
    """
    bad = find_not_finite(tensors, may_be_infinite)
    if bad:
        raise CheckpointError(
            f'{source} holds NaN or infinity in {list_names(bad)}: the '
            'training that wrote it went wrong. Take an earlier checkpoint.'
        )


def load_content(
    model: nn.Module,
    content: Any,
    source: str,
    needs: str | None = None,
    prefix: str = '',
    revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),),
) -> None:
    """Load what a file held, see :func:`load_strictly`.

    Args:
        model: To load into.
        content: As read, with the weights somewhere in it.
        source: The file, for messages.
        needs: See :func:`load_strictly`.
        prefix: Load only what has names that begin so, without it; as
            MMEngine's ``init_cfg``.
        revise_keys: Patterns in names, and what stands in their place.

    Raises:
        CheckpointError: If there are no weights, or none with the prefix, or
            they do not fit, or are of another number of attention heads,
            which only the config in the file tells.
    """
    tensors, settings = unwrap_tensors(content, source)
    _check_heads(model, settings, source)
    for pattern, replacement in revise_keys:
        tensors = {
            re.sub(pattern, replacement, name): tensor
            for name, tensor in tensors.items()
        }
    if prefix:
        prefix = f'{prefix.removesuffix(".")}.'
        found = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        if not found:
            raise CheckpointError(
                f'{source} holds nothing under prefix={prefix!r}.'
                f'{suggest_remedy(tensors, source, prefix, [])}'
            )
        tensors = found
    load_strictly(model, tensors, source, needs)


def _check_heads(
    model: nn.Module, settings: Mapping[str, Any], source: str
) -> None:
    config = read_model_config(settings)
    given = part_of_settings(config, 'backbone').get('num_heads')
    for module in unwrap(model).modules():
        if isinstance(module, VisionTransformer) and isinstance(given, int):
            own = module.blocks[0].attn.num_heads
            if own != given:
                raise CheckpointError(
                    f'{source} was trained with {given} attention heads, the '
                    f'model has {own}: set model.backbone.num_heads={given}.'
                )


def _describe(model: nn.Module) -> str:
    return type(model).__name__


def part_of(name: str) -> str:
    """Part of a model that a tensor is loaded together with.

    Each of the decoders, and each of the predictors, is a part of its own: a
    decoder of pixels is of use to one of pixels and motion.
    """
    if name.startswith(BALANCE):
        return BALANCE
    words = name.split('.')
    length = 3 if words[0] in ('neck', 'head') and len(words) > 3 else 1
    return '.'.join(words[:length])


def _explain_missing(
    missing: list[str],
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    needs: str,
    prefix: str,
) -> list[str]:
    """Those that may be missing."""
    found = {part_of(name) for name in tensors}
    anew = []
    for name in missing:
        if name.startswith(BALANCE) or (
            name.endswith('pos_embed') and is_position_table(own[name])
        ):
            anew.append(name)
        elif needs != 'encoder':
            continue
        elif prefix and not name.startswith(prefix):
            if part_of(name) not in found:
                anew.append(name)
        elif _other_norm(name, prefix) in tensors:
            anew.append(name)
    return anew


def _explain_extra(
    extra: list[str], own: Mapping[str, Tensor], anew: list[str], prefix: str
) -> list[str]:
    """Those that the model has no use for."""
    found = {part_of(name) for name in own}
    # Raw pixels, as features, have no weights.
    is_empty = not any(name.startswith(prefix) for name in own)
    unused = []
    for name in extra:
        if prefix and not name.startswith(prefix):
            part = part_of(name)
            if part not in found and part.split('.')[0] in OTHER_PARTS:
                unused.append(name)
        elif is_empty or _other_norm(name, prefix) in anew:
            unused.append(name)
    return unused


def _other_norm(name: str, prefix: str) -> str | None:
    """``norm`` for ``fc_norm``, and the other way round."""
    norm, _, parameter = name.removeprefix(prefix).rpartition('.')
    others = {'norm': 'fc_norm', 'fc_norm': 'norm'}
    return f'{prefix}{others[norm]}.{parameter}' if norm in others else None
