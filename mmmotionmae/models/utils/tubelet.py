# Copyright (c) MotionMAE contributors. All rights reserved.
"""Pure functions between clips and tokens.

Shapes: B clips, C channels, T frames, H W height and width of a frame;
t h w the token grid, L = t*h*w tokens, N of them selected; P = p0*p1*p2 the
positions of one tubelet (p0 frames of p1 x p2 pixels). Tokens are ordered
(t, h, w), row-major, and a token's values (C, p0, p1, p2): the order of the
embedding's convolution kernel, and the cheapest to cut from a clip.
(VideoMAE's decoder predicts them in the order (p0, p1, p2, C).)
"""

import torch
from einops import rearrange
from torch import Tensor

Grid = tuple[int, int, int]


def token_grid(
    num_frames: int,
    height: int,
    width: int,
    tubelet_size: int,
    patch_size: int,
) -> Grid:
    """The token grid of a clip.

    Args:
        num_frames: Frames of the clip.
        height: Height of a frame, in pixels.
        width: Width of a frame, in pixels.
        tubelet_size: Frames of a tubelet.
        patch_size: Height and width of a tubelet, in pixels.

    Returns:
        (t, h, w): slots, rows and columns.

    Raises:
        ValueError: If the clip does not divide evenly into tubelets.

    Examples:
        >>> token_grid(16, 224, 224, tubelet_size=2, patch_size=16)
        (8, 14, 14)
    """
    for name, size, part in (
        ('frames', num_frames, tubelet_size),
        ('height', height, patch_size),
        ('width', width, patch_size),
    ):
        if size < part or size % part:
            raise ValueError(
                f'A clip of {num_frames} frames of {height}x{width} pixels '
                f'does not divide evenly into tubelets of {tubelet_size} '
                f'frames of {patch_size}x{patch_size} pixels: {name} is '
                f'{size}, not a multiple of {part}.'
            )
    return (
        num_frames // tubelet_size,
        height // patch_size,
        width // patch_size,
    )


def _as_tubelets(clip: Tensor, tubelet_size: int, patch_size: int) -> Tensor:
    """View a clip as (B, t, h, w, C, p0, p1, p2), without a copy."""
    t, h, w = clip.shape[-3:]
    token_grid(t, h, w, tubelet_size, patch_size)
    return rearrange(
        clip,
        'b c (t p0) (h p1) (w p2) -> b t h w c p0 p1 p2',
        p0=tubelet_size,
        p1=patch_size,
        p2=patch_size,
    )


def patchify(clip: Tensor, tubelet_size: int, patch_size: int) -> Tensor:
    """Cut clips into tubelets.

    Args:
        clip: (B, C, T, H, W).
        tubelet_size: Frames of a tubelet.
        patch_size: Height and width of a tubelet, in pixels.

    Returns:
        (B, L, C, P), the dtype of ``clip``.

    Raises:
        ValueError: If the clip does not divide evenly.
    """
    tubelets = _as_tubelets(clip, tubelet_size, patch_size)
    return rearrange(tubelets, 'b t h w c p0 p1 p2 -> b (t h w) c (p0 p1 p2)')


def unpatchify(
    tubelets: Tensor, grid: Grid, tubelet_size: int, patch_size: int
) -> Tensor:
    """Put tubelets together again; the inverse of :func:`patchify`.

    Args:
        tubelets: (B, L, C, P).
        grid: (t, h, w) with t*h*w = L.
        tubelet_size: Frames of a tubelet.
        patch_size: Height and width of a tubelet, in pixels.

    Returns:
        (B, C, T, H, W), the dtype of ``tubelets``.
    """
    t, h, w = grid
    return rearrange(
        tubelets,
        'b (t h w) c (p0 p1 p2) -> b c (t p0) (h p1) (w p2)',
        t=t,
        h=h,
        w=w,
        p0=tubelet_size,
        p1=patch_size,
        p2=patch_size,
    )


def select_tubelets(
    clip: Tensor, index: Tensor, tubelet_size: int, patch_size: int
) -> Tensor:
    """Cut out only some tubelets of each clip.

    Equal to gathering ``index`` from :func:`patchify`, but touches only the
    pixels that are asked for.

    Args:
        clip: (B, C, T, H, W).
        index: (B, N), int64, in [0, L).
        tubelet_size: Frames of a tubelet.
        patch_size: Height and width of a tubelet, in pixels.

    Returns:
        (B, N, C, P), the dtype of ``clip``.

    Raises:
        ValueError: If the clip does not divide evenly.
    """
    tubelets = _as_tubelets(clip, tubelet_size, patch_size)
    _, h, w = tubelets.shape[1:4]
    batch = torch.arange(len(clip), device=clip.device)[:, None]
    selected = tubelets[batch, index // (h * w), index // w % h, index % w]
    return rearrange(selected, 'b n c p0 p1 p2 -> b n c (p0 p1 p2)')


def select_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Select some tokens of each clip.

    Args:
        tokens: (B, L, D), or (1, L, D) for tokens that all clips share.
        index: (B, N), int64, in [0, L).

    Returns:
        (B, N, D).
    """
    if len(tokens) == 1:
        return tokens[0][index]
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.size(-1)))


def split_mask(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The indices of visible and of masked tokens, in token order.

    Args:
        mask: (B, L), bool, True = masked (removed). Every clip has the same
            number of masked tokens.

    Returns:
        Visible (B, V) and masked (B, L - V) indices, int64.

    Raises:
        TypeError: If the mask is not a bool tensor of two dimensions.
        ValueError: If the number of masked tokens differs between clips.

    Examples:
        >>> visible, masked = split_mask(torch.tensor([[True, False, True]]))
        >>> visible.tolist(), masked.tolist()
        ([[1]], [[0, 2]])
    """
    if mask.dtype != torch.bool or mask.ndim != 2:
        raise TypeError(
            'A mask is a bool tensor (B, L), True = masked; got '
            f'{mask.dtype} {tuple(mask.shape)}.'
        )
    counts = mask.sum(1)
    num_masked = int(counts[0])
    if not bool((counts == num_masked).all()):
        raise ValueError(
            'Every clip of a batch must have the same number of '
            f'masked tokens; got {sorted(set(counts.tolist()))}.'
        )
    # A stable sort puts the visible tokens (False) first, each in order.
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)
    num_visible = mask.size(1) - num_masked
    return order[:, :num_visible], order[:, num_visible:]
