# Copyright (c) MotionMAE contributors. All rights reserved.
"""Masked places of a clip, filled from those that are visible.

Shapes: B clips, C channels, T frames, H W height and width of a frame;
t h w the token grid, S = h*w places, L = t*S tokens, V of them visible;
p0 frames and p1 x p2 pixels of a tubelet.
"""

import torch
from einops import rearrange, repeat
from torch import Tensor

from .tubelet import token_grid


def interpolate_in_time(
    clip: Tensor, visible: Tensor, tubelet_size: int, patch_size: int
) -> Tensor:
    """Fill masked tubelets by linear interpolation in time.

    Each pixel of a masked tubelet lies on the line between that pixel in the
    last frame before it, and in the first one after it, that belong to a
    visible tubelet. Where there is one of the two only, it is repeated; where
    there is none, in a tube, stands the mean colour of all visible tubelets
    of the clip.

    Args:
        clip: (B, C, T, H, W), float.
        visible: (B, V), int64, in [0, L): the visible tokens, at least one.
        tubelet_size: Frames of a tubelet.
        patch_size: Height and width of a tubelet, in pixels.

    Returns:
        (B, C, T, H, W), the dtype of ``clip``; visible pixels are as they
        were.

    Raises:
        ValueError: If the clip does not divide evenly into tubelets.

    Examples:
        >>> clip = torch.tensor([0.0, 9.0, 9.0, 3.0]).view(1, 1, 4, 1, 1)
        >>> interpolate_in_time(clip, torch.tensor([[0, 3]]), 1, 1).flatten()
        tensor([0., 1., 2., 3.])
    """
    num_frames, height, width = clip.shape[-3:]
    t, h, w = token_grid(num_frames, height, width, tubelet_size, patch_size)
    shown = clip.new_zeros((len(clip), t * h * w), dtype=torch.bool)
    shown.scatter_(1, visible, True)
    shown = repeat(
        shown, 'b (t s) -> b (t p0) s', t=t, p0=tubelet_size
    )  # (B, T, S)
    frame = rearrange(
        torch.arange(num_frames, device=clip.device), 't -> 1 t 1'
    )
    # Of each frame the nearest visible one before it, and after it.
    before = torch.where(shown, frame, -1).cummax(1).values
    after = torch.where(shown, frame, num_frames).flip(1)
    after = after.cummin(1).values.flip(1)
    never = (before < 0) & (after == num_frames)
    before, after = (
        torch.where(before < 0, after, before).clamp(max=num_frames - 1),
        torch.where(after == num_frames, before, after).clamp(min=0),
    )
    share = (frame - before) / (after - before).clamp(min=1)
    pixels = rearrange(
        clip, 'b c t (h p1) (w p2) -> b t (h w) (c p1 p2)', h=h, w=w
    )
    mean = _mean_colour(pixels, shown, clip.size(1))
    first, last = (
        pixels.gather(1, index[..., None].expand_as(pixels))
        for index in (before, after)
    )
    filled = torch.lerp(first, last, share[..., None].to(pixels.dtype))
    filled = torch.where(never[..., None], mean, filled)
    filled = torch.where(shown[..., None], pixels, filled)
    return rearrange(
        filled,
        'b t (h w) (c p1 p2) -> b c t (h p1) (w p2)',
        h=h,
        p1=patch_size,
        p2=patch_size,
    )


def _mean_colour(pixels: Tensor, shown: Tensor, channels: int) -> Tensor:
    """The mean of all that is shown: (B, 1, 1, C*p1*p2)."""
    sums = torch.einsum('btsk,bts->bk', pixels, shown.to(pixels.dtype))
    area = pixels.size(-1) // channels
    mean = sums.unflatten(1, (channels, area)).mean(-1)
    mean = mean / shown.sum((1, 2)).clamp(min=1)[:, None]
    return repeat(mean, 'b c -> b 1 1 (c k)', k=area)
