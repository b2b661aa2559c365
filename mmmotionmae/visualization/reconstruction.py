# Copyright (c) MotionMAE contributors. All rights reserved.
"""What a masked autoencoder reconstructs, and how well.

Shapes: B clips, C channels, T frames, H W size, L tokens.
"""

import math
from typing import Any, NamedTuple

import torch
from einops import rearrange
from mmengine.dataset import pseudo_collate
from torch import Tensor

from ..models import MotionMAE
from ..models.utils.target import in_pixel_range
from ..models.utils.tubelet import TokenSplit, split_mask

Errors = dict[str, dict[str, float]]

# The mean squared error at which the peak signal-to-noise ratio is 100 dB.
_LEAST_ERROR = 1e-10


class Reconstruction(NamedTuple):
    """What :func:`reconstruct_batch` gives, on the CPU.

    Attributes:
        videos: (B, C, T, H, W), float32: ``input`` and ``masked`` in [0, 1]
            (masked tubelets mid-grey), ``pixel`` the reconstruction, and, if
            the model predicts motion, ``true_motion`` and ``motion``. A model
            that does not predict pixels has no ``pixel``.
        mask: (B, L), bool, True = masked.
        errors: For each clip and target, over its masked tokens: ``loss``
            and ``r2`` of the normalised target, as training logs them
            (motion: also ``r2_moving``); ``mse`` of the reconstruction, in
            units of the [0, 1] pixel range; and, of the pixels, ``psnr`` in
            dB, at most 100.
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
    split = split_mask(data['inputs']['mask'])
    tokens = model.neck(model.backbone(clip, split), split)
    predictions = model.head.predict(tokens, truths, split, statistics)
    # Rounded, it is to the last bit what it was before the normalisation.
    levels = (clip * preprocessor.std + preprocessor.mean).round_()
    video = levels.div_(255)
    hidden = _as_video(mask.to(video), model.backbone.token_grid, video)
    videos = dict(input=video, masked=video * (1 - hidden) + 0.5 * hidden)
    for name, prediction in predictions.items():
        videos[name] = prediction
        if name == 'motion':
            videos['true_motion'] = in_pixel_range(truths['motion'])
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
        scores = model.head.loss(
            {name: value[one] for name, value in tokens.items()},
            {name: value[one] for name, value in truths.items()},
            TokenSplit(
                split.visible[one], split.masked[one], split.num_tokens
            ),
        )
        errors: Errors = {}
        for name, prediction in predictions.items():
            weighted = float(scores[f'loss_{name}'])
            errors[name] = dict(
                loss=weighted / model.head.weights[name],
                r2=float(scores[f'r2_{name}']),
            )
            if name == 'motion':
                errors[name]['r2_moving'] = float(scores['r2_motion_moving'])
            # Visible tubelets are the true ones: their error is 0.
            off = prediction[i] - in_pixel_range(truths[name][i])
            error = float(off.double().square().mean()) / share
            errors[name]['mse'] = error
            if name == 'pixel':
                least = max(error, _LEAST_ERROR)
                errors[name]['psnr'] = -10 * math.log10(least)
        result.append(errors)
    return result
