# Copyright (c) MotionMAE contributors. All rights reserved.
"""Attention with a layer each for queries, keys and values.

MMAction2 has one layer for the three, and biases of queries and values only.
A bias of the keys changes nothing: it adds the same number to all scores of a
query, and the softmax takes it out again. So it is left out when reading, and
is 0 when writing.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ...utils.errors import CheckpointError
from ..specs import RawCheckpoint

Layers = tuple[str, str, str]


def join_qkv(raw: RawCheckpoint, layers: Layers) -> RawCheckpoint:
    """Join the three layers to one.

    Args:
        raw: The tensors ``<prefix><layer>.weight``, each (D, D), and perhaps
            ``<prefix><layer>.bias``, each (D,).
        layers: What the layers of queries, keys and values are called.

    Returns:
        Instead of these, ``<prefix>qkv.weight``, (3D, D), and perhaps
        ``<prefix>q_bias`` and ``<prefix>v_bias``, (D,). Where one of three
        weights is missing, the others stay as they are.

    Raises:
        CheckpointError: If a bias is there under both names, with different
            values.

    Examples:
        >>> one = {f'attn.{n}.weight': torch.ones(2, 2) for n in 'qkv'}
        >>> one |= {f'attn.{n}.bias': torch.ones(2) for n in 'qkv'}
        >>> joined = join_qkv(RawCheckpoint(one, {}, ''), ('q', 'k', 'v'))
        >>> {name: tuple(x.shape) for name, x in joined.tensors.items()}
        {'attn.qkv.weight': (6, 2), 'attn.q_bias': (2,), 'attn.v_bias': (2,)}
    """
    tensors = dict(raw.tensors)
    ending = f'.{layers[0]}.weight'
    for name in raw.tensors:
        prefix = name.removesuffix(ending[1:])
        weights = [f'{prefix}{layer}.weight' for layer in layers]
        if not name.endswith(ending) or not set(weights) <= set(tensors):
            continue
        tensors[f'{prefix}qkv.weight'] = torch.cat(
            [tensors.pop(weight) for weight in weights]
        )
        for short, layer in zip('qkv', layers, strict=True):
            bias = tensors.pop(f'{prefix}{layer}.bias', None)
            if bias is None or short == 'k':
                continue
            joined = f'{prefix}{short}_bias'
            if not torch.equal(tensors.setdefault(joined, bias), bias):
                raise CheckpointError(
                    f'{raw.source} holds {joined} and {prefix}{layer}.bias, '
                    'two names of one bias, with different values.'
                )
    return replace(raw, tensors=tensors)


def split_qkv(
    tensors: Mapping[str, Tensor],
    layers: Layers,
    keep_biases: bool = False,
) -> dict[str, Tensor]:
    """The reverse of :func:`join_qkv`.

    Args:
        tensors: With ``<prefix>qkv.weight`` and perhaps ``<prefix>q_bias``
            and ``<prefix>v_bias``.
        layers: What the layers of queries, keys and values are called.
        keep_biases: Whether the biases stay under their names, too.
    """
    split: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        prefix, _, last = name.rpartition('.')
        prefix += '.'
        if last in ('q_bias', 'v_bias'):
            layer = layers['qkv'.index(last[0])]
            split[f'{prefix}{layer}.bias'] = tensor
            if last == 'q_bias':
                split[f'{prefix}{layers[1]}.bias'] = torch.zeros_like(tensor)
            if keep_biases:
                split[name] = tensor
        elif name.endswith('.qkv.weight'):
            prefix = prefix.removesuffix('qkv.')
            for layer, part in zip(layers, tensor.chunk(3), strict=True):
                split[f'{prefix}{layer}.weight'] = part.clone()
        else:
            split[name] = tensor
    return split
