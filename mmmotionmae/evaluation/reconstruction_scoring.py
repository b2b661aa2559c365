# Copyright (c) MotionMAE contributors. All rights reserved.
"""R² of the targets of a masked autoencoder over a data set.

Shapes: N clips of a sample, M masked tokens, K values of a token.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models import MotionMAE
from ..models.motionmae import need_split
from ..models.targets import interpolate_target
from ..models.utils.reconstruction_error import (
    explained_variance,
    squared_error,
)


@dataclass(frozen=True)
class TokenErrors:
    """Sums that R² of a target is computed of, at the masked tokens of clips.

    Attributes:
        num_values: K.
        sums: By name, (N, M), float32, each over the K values of a token:
            ``total``, of the values; ``square``, of their squares;
            ``residual``, of the squared errors; and, if asked for,
            ``oracle``, of those of :func:`interpolate_target`.
        subsets: By name, (N, M), bool: :meth:`ReconstructionTarget.subsets`.
    """

    num_values: int
    sums: dict[str, Tensor]
    subsets: dict[str, Tensor]


Errors = dict[str, TokenErrors]


@torch.no_grad()
def score_batch(
    model: MotionMAE, data: dict[str, Any], oracle: bool = False
) -> list[Errors]:
    """The errors of a model at the masked tokens of a batch.

    Args:
        model: In evaluation mode.
        data: A batch of the loader: clips (N, C, T, H, W), uint8, and data
            samples with masks.
        oracle: Whether to add those of :func:`interpolate_target`.

    Returns:
        For each sample the errors of each target, on the CPU.

    Raises:
        ValueError: If there is no mask.
    """
    preprocessor = model.data_preprocessor
    batch = preprocessor(data, False)
    inputs, samples = batch['inputs'], batch['data_samples']
    videos, split = inputs['videos'], need_split(inputs['split'])
    frames = preprocessor.levels(inputs['clip']).byte() if oracle else None
    result: list[Errors] = [{} for _ in samples]
    tokens = model.decode(inputs['clip'], split)
    for name, found in model.head.compare(tokens, videos, split):
        target = model.head.targets[name]
        sums = dict(
            total=found.truth.sum,
            square=found.truth.square,
            residual=found.squared_error,
        )
        if frames is not None:
            pred = interpolate_target(
                target,
                frames,
                videos[name],
                split,
                preprocessor.tubelet_size,
                preprocessor.patch_size,
                samples,
            )
            if pred is not None:
                truth = target.build(videos[name], split.masked).values
                sums['oracle'] = squared_error(pred, truth.flatten(2), True)
        subsets = target.subsets(found.truth)
        for one, of_sample, of_subset in zip(
            result,
            _per_sample(sums, len(samples)),
            _per_sample(subsets, len(samples)),
            strict=True,
        ):
            one[name] = TokenErrors(target.num_values, of_sample, of_subset)
    return result


def _per_sample(
    tensors: Mapping[str, Tensor], count: int
) -> list[dict[str, Tensor]]:
    """Each cut into parts along the clips."""
    parts = {
        name: value.cpu().unflatten(0, (count, -1))
        for name, value in tensors.items()
    }
    return [{k: v[i] for k, v in parts.items()} for i in range(count)]


def explained_shares(errors: Sequence[Errors]) -> dict[str, float]:
    """R² of each target over all masked tokens of many samples.

    Of the tokens of all samples together, not the mean over samples.

    Args:
        errors: What :func:`score_batch` returns, of any number of batches.

    Returns:
        ``r2_NAME``, and for each subset ``r2_NAME_SUBSET``, as training logs
        them, each followed by that of the oracle, if there is one, with
        ``_oracle`` at its end.
    """
    scores: dict[str, float] = {}
    for name in errors[0] if errors else ():
        tokens = [one[name] for one in errors]
        sums, subsets = (
            {
                key: torch.cat([getattr(one, part)[key] for one in tokens])
                for key in getattr(tokens[0], part)
            }
            for part in ('sums', 'subsets')
        )
        for subset in (None, *subsets):
            key = '_'.join(['r2', name, *([subset] if subset else [])])
            for kind, end in ('residual', ''), ('oracle', '_oracle'):
                if kind in sums:
                    scores[key + end] = explained_variance(
                        sums[kind],
                        sums['total'],
                        sums['square'],
                        tokens[0].num_values,
                        subsets[subset] if subset else None,
                    ).item()
    return scores


def score_reconstruction(
    model: MotionMAE, batches: Iterable[dict[str, Any]], oracle: bool = False
) -> dict[str, float]:
    """R² of a model over all batches of a loader.

    Args:
        model: Is put into evaluation mode, and back.
        batches: Of the loader, with masks.
        oracle: Whether to add what interpolation in time explains at the same
            masks, see :func:`interpolate_target`.

    Returns:
        What :func:`explained_shares` returns.

    Raises:
        ValueError: If there are no masks.
    """
    training = model.training
    model.eval()
    try:
        errors = [
            sample
            for batch in batches
            for sample in score_batch(model, batch, oracle)
        ]
    finally:
        model.train(training)
    return explained_shares(errors)
