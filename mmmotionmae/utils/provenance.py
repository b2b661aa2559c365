# Copyright (c) MotionMAE contributors. All rights reserved.
"""Provenance of results, in cards: weights, settings, versions, date."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ..version import __version__
from .sharding import holds_parts, whole

# Settings, on any level of a config, that change no result of a sequence: the
# hash of the weights covers the first, the next are about memory, and the
# last chooses sequences.
NEUTRAL = ('init_cfg', 'frames_per_batch', 'max_affinities', 'sequences')


def unwrap(model: nn.Module) -> Any:
    """The model itself, without wrappers of MMEngine."""
    inner: Any = model
    while is_model_wrapper(inner) or isinstance(inner, BaseTTAModel):
        inner = inner.module
    return inner


def has_parts(runner: Runner) -> bool:
    """Tell whether each process has a part of the weights only."""
    return holds_parts(dict(runner.model.named_parameters()))


def make_card(runner: Runner) -> dict[str, Any]:
    """Provenance of the results of a test: all that makes them.

    Args:
        runner: With the weights loaded. If each process has a part of them
            (:func:`has_parts`), all call this.

    Returns:
        A dict for JSON: under ``fingerprint`` all that changes the results
        (``weights``, a hash; ``protocol`` of the model; the config of model,
        test loop and data set), and beside it ``checkpoint``, ``seed``,
        ``versions`` and ``date``.
    """
    model, cfg = unwrap(runner.model), runner.cfg
    checkpoint = cfg.get('load_from')
    card = dict(
        fingerprint=dict(
            weights=hash_weights(model),
            protocol=getattr(model, 'protocol', None),
            model=cfg.get('model'),
            test_cfg=cfg.get('test_cfg'),
            dataset=cfg.test_dataloader.dataset,
        ),
        checkpoint=dict(path=checkpoint, sha256=hash_file(checkpoint)),
        **circumstances(runner.seed),
    )
    return as_read(card)


def circumstances(seed: int | None) -> dict[str, Any]:
    """``seed``, ``versions`` of packages and ``date``, for a card."""
    return dict(
        seed=seed,
        versions=versions('torch', 'mmaction', 'mmengine', 'numpy'),
        date=time.strftime('%Y-%m-%d %H:%M:%S %z'),
    )


def versions(*modules: str) -> dict[str, str]:
    """Versions of this package and of others, by the names of modules."""
    return dict(mmmotionmae=__version__) | {
        name: str(import_module(name).__version__) for name in modules
    }


def as_read(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card as it looks when read from a file: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(card, default=str))
    return plain


def hash_weights(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, with names and shapes.

    Unlike that of a checkpoint file it covers random weights, those of an
    ``init_cfg`` and those that a checkpoint lacks.
    """
    return hash_tensors(model.state_dict())


def hash_tensors(tensors: Mapping[str, Any]) -> str:
    """SHA-256 of tensors, with names, types and shapes, in their order."""
    digest = hashlib.sha256()
    for name, value in tensors.items():
        value = whole(value)
        if isinstance(value, torch.Tensor):
            digest.update(f'{name} {value.dtype} {[*value.shape]};'.encode())
            values = value.detach().cpu().reshape(-1).contiguous()
            digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_file(path: str | None) -> str | None:
    """SHA-256 of a file; None if it is none on this machine."""
    if path is None or not Path(path).is_file():
        return None
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Differences of two cards that change results; empty without."""
    pairs = _different_items(old['fingerprint'], new['fingerprint'])
    if 'weights' in pairs:  # say where they are from
        for name in ('checkpoint', 'seed'):
            pairs |= _different_items({name: old[name]}, {name: new[name]})
    texts = [
        f'{name}: {_short(before)} -> {_short(after)}'
        for name, (before, after) in pairs.items()
    ]
    if len(texts) > 5:
        texts[5:] = [f'and {len(texts) - 5} more']
    return '; '.join(texts)


def _different_items(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    before, after = dict(_flatten(old)), dict(_flatten(new))
    return {
        name: (before.get(name), after.get(name))
        for name in before | after
        if before.get(name) != after.get(name)
    }


def _flatten(value: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    """All leaves, with names such as ``model.backbone.depth``."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    if not items:
        yield name, value
    for key, item in items:
        if key not in NEUTRAL:
            yield from _flatten(item, f'{name}.{key}' if name else str(key))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 64 else f'{text[:12]}...{text[-12:]}'
