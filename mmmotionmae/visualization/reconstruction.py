# Copyright (c) MotionMAE contributors. All rights reserved.
"""Reconstructions of a masked autoencoder, and their errors.

Shapes: B clips, C channels, T frames, H W size, L tokens.
"""

from typing import Any, NamedTuple

import torch
from einops import rearrange
from mmengine.dataset import pseudo_collate
from torch import Tensor

from ..models import MotionMAE
from ..models.targets import in_pixel_range
from ..models.utils.tubelet import TokenSplit

Errors = dict[str, dict[str, float]]


class Reconstruction(NamedTuple):
    """Videos and errors of a batch, on the CPU.

    Attributes:
        videos: (B, C, T, H, W), float32: ``input`` and ``masked`` in [0, 1]
            (masked tubelets mid-grey), and for each target that is a video
            the truth, ``NAME``, unless it is the input, and the prediction,
            ``NAME_reconstruction``.
        mask: (B, L), bool, True = masked.
        errors: For each clip and target, over its masked tokens: ``loss``,
            not weighted, and scores (``r2``) of the normalised target, as
            training logs them; and, of a reconstruction,
            :meth:`ReconstructionTarget.errors`: ``mse`` in its units, of
            pixels and motion that of the [0, 1] pixel range.
    """

    videos: dict[str, Tensor]
    mask: Tensor
    errors: list[Errors]


def reconstruct(
    model: MotionMAE, samples: list[dict], statistics: str = 'true'
) -> dict[str, Tensor]:
    """Run a model on samples of its data set and collect what to show.

    Args:
        model: A trained model; left in evaluation mode.
        samples: B samples, each with one clip, as the data set yields them.
        statistics: As in :meth:`MotionMAEHead.predict`.

    Returns:
        ``videos`` of :class:`Reconstruction`.
    """
    batch = pseudo_collate(samples)
    return reconstruct_batch(model, batch, statistics).videos


@torch.no_grad()
def reconstruct_batch(
    model: MotionMAE, data: dict[str, Any], statistics: str = 'true'
) -> Reconstruction:
    """Reconstruct the clips of a batch and score each of them.

    Args:
        model: A trained model; left in evaluation mode.
        data: What ``pseudo_collate`` makes of samples with masks: clips (N,
            C, T, H, W), uint8, and data samples. B counts all clips.
        statistics: As in :meth:`MotionMAEHead.predict`.

    Returns:
        The reconstruction.
    """
    model.eval()
    preprocessor = model.data_preprocessor
    data = preprocessor(data)
    clip, truths = data['inputs']['clip'], data['inputs']['videos']
    mask = torch.cat([sample.mask for sample in data['data_samples']])
    split = data['inputs']['split']
    tokens = model.decode(clip, split)
    predictions = model.head.predict(tokens, truths, split, statistics)
    video = preprocessor.levels(clip).div_(255)
    hidden = _as_video(mask.to(video), model.backbone.token_grid, video)
    videos = dict(input=video, masked=video * (1 - hidden) + 0.5 * hidden)
    for name, prediction in predictions.items():
        if not model.head.targets[name].shown_by_input:
            videos[name] = in_pixel_range(truths[name])
        videos[f'{name}_reconstruction'] = prediction
    return Reconstruction(
        {name: value.float().cpu() for name, value in videos.items()},
        mask.cpu(),
        _errors(model, tokens, truths, split, predictions),
    )


def _as_video(
    mask: Tensor, grid: tuple[int, int, int], like: Tensor
) -> Tensor:
    """A mask (B, L) for the pixels of a video: (B, 1, T, H, W)."""
    t, h, w = grid
    places = rearrange(mask, 'b (t h w) -> b 1 t h w', t=t, h=h, w=w)
    return torch.nn.functional.interpolate(places, size=like.shape[-3:])


def _errors(
    model: MotionMAE,
    tokens: dict[str, Tensor],
    truths: dict[str, Tensor],
    split: TokenSplit,
    predictions: dict[str, Tensor],
) -> list[Errors]:
    """The errors of each clip, see :class:`Reconstruction`."""
    share = split.masked.size(1) / split.num_tokens
    result = []
    for i in range(len(split.masked)):
        one = slice(i, i + 1)
        found = model.head.evaluate(
            {name: value[one] for name, value in tokens.items()},
            {name: value[one] for name, value in truths.items()},
            TokenSplit(
                split.visible[one], split.masked[one], split.num_tokens
            ),
        )
        errors: Errors = {
            name: {key: float(value) for key, value in scores.items()}
            for name, scores in found.items()
        }
        for name, prediction in predictions.items():
            # Visible tubelets are the true ones: their error is 0.
            off = prediction[i] - in_pixel_range(truths[name][i])
            error = float(off.double().square().mean()) / share
            errors[name] |= model.head.targets[name].errors(error)
        result.append(errors)
    return result
