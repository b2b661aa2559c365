# Copyright (c) MotionMAE contributors. All rights reserved.
"""Pictures of what a masked autoencoder reconstructs."""

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from mmengine.dataset import pseudo_collate
from torch import Tensor

from ..models import MotionMAE
from ..models.utils.target import in_pixel_range

UInt8Array = npt.NDArray[np.uint8]


def motion_to_rgb(motion: Tensor, scale: float) -> Tensor:
    """Show a difference of frames as a picture around mid-grey.

    Args:
        motion: (..., C, T, H, W), in units of the [0, 1] pixel range.
        scale: The difference that is shown as black or white.

    Returns:
        The same shape, in [0, 1]; no motion is 0.5.
    """
    return (motion / (2 * scale) + 0.5).clamp(0, 1)


@torch.no_grad()
def reconstruct(model: MotionMAE, samples: list[dict]) -> dict[str, Tensor]:
    """Run a model on samples of its data set and collect what to show.

    Args:
        model: A trained model; left in evaluation mode.
        samples: B samples, each with one clip, as the data set yields them.

    Returns:
        Videos (B, C, T, H, W), float32: ``input`` and ``masked`` in [0, 1]
        (masked tubelets mid-grey), ``pixel`` the reconstruction, and, if the
        model predicts motion, ``true_motion`` and ``motion``. A model that
        does not predict pixels has no ``pixel``.
    """
    model.eval()
    data = model.data_preprocessor(pseudo_collate(samples))
    inputs = data['inputs']
    preprocessor = model.data_preprocessor
    clip = inputs['clip']
    mask = torch.cat([sample.mask for sample in data['data_samples']])
    video = (clip * preprocessor.std + preprocessor.mean) / 255
    t, h, w = model.backbone.token_grid
    hidden = rearrange(mask, 'b (t h w) -> b 1 t h w', t=t, h=h, w=w)
    hidden = torch.nn.functional.interpolate(
        hidden.to(video), size=video.shape[-3:]
    )
    videos = dict(input=video, masked=video * (1 - hidden) + 0.5 * hidden)
    outputs = model(inputs, data['data_samples'], mode='predict')
    for name, truth in inputs['videos'].items():
        videos[name] = torch.cat(
            [sample.get(f'{name}_reconstruction') for sample in outputs]
        )
        if name == 'motion':
            videos['true_motion'] = in_pixel_range(truth)
    return {name: value.float().cpu() for name, value in videos.items()}


def draw(video: Tensor, zoom: int = 1) -> UInt8Array:
    """A video as frames for a picture file.

    Args:
        video: (C, T, H, W), in [0, 1]; values outside are clipped.
        zoom: Enlarge every pixel so many times.

    Returns:
        (T, H, W, C), uint8.
    """
    frames = (video.clamp(0, 1) * 255).round().to(torch.uint8)
    frames = frames.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    return rearrange(frames, 'c t h w -> t h w c').numpy()
