# Copyright (c) MotionMAE contributors. All rights reserved.
"""Pure functions between clips and tokens.

Shapes: B clips, C channels, T frames, H W height and width of a frame;
t h w the token grid, L = t*h*w tokens, N of them selected; P = p0*p1*p2 the
positions of one tubelet (p0 frames of p1 x p2 pixels). Tokens are ordered
(t, h, w), row-major, and a token's values (C, p0, p1, p2): the order of the
embedding's convolution kernel, and the cheapest to cut from a clip.
(VideoMAE's decoder predicts them in the order (p0, p1, p2, C).)
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
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
    num_frames, height, width = clip.shape[-3:]
    token_grid(num_frames, height, width, tubelet_size, patch_size)
    return rearrange(
        clip,
        'b c (t p0) (h p1) (w p2) -> b (t h w) c (p0 p1 p2)',
        p0=tubelet_size,
        p1=patch_size,
        p2=patch_size,
    )


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
    num_clips, channels, num_frames, height, width = clip.shape
    _, h, w = token_grid(num_frames, height, width, tubelet_size, patch_size)
    # A clip is a table whose rows are patch_size neighbouring pixels: there
    # are w of them in a line of pixels, w * height in a frame. A token is
    # made of the rows that stand at the same steps from its first one, which
    # is the row of its first pixel.
    per_line, per_frame = w, w * height
    per_channel = per_frame * num_frames
    steps = (
        torch.arange(n, device=clip.device) * step
        for n, step in (
            (channels, per_channel),
            (tubelet_size, per_frame),
            (patch_size, per_line),
        )
    )
    # Those steps: C * p0 * p1 of them, in the order of a token's values.
    c, p0, p1 = torch.meshgrid(*steps, indexing='ij')
    # Index i is slot i // (h * w), row i // w % h and column i % w.
    first = (
        torch.arange(num_clips, device=clip.device)[:, None]
        * (channels * per_channel)
        + index // (h * w) * (tubelet_size * per_frame)
        + index // w % h * (patch_size * per_line)
        + index % w
    )
    rows = rearrange(first, 'b n -> b n 1') + (c + p0 + p1).flatten()
    selected = clip.reshape(-1, patch_size).index_select(0, rows.flatten())
    return selected.view(num_clips, index.size(1), channels, -1)


def select_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Select some tokens of each clip.

    Args:
        tokens: (B, L, D), or (1, L, D) for tokens that all clips share.
        index: (B, N), int64, in [0, L).

    Returns:
        (B, N, D).
    """
    if len(tokens) == 1:
        selected = tokens[0].index_select(0, index.flatten())
        return selected.view(*index.shape, -1)
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.size(-1)))


def interpolate_positions(positions: Tensor, old: Grid, new: Grid) -> Tensor:
    """Fit a table of positions to another token grid.

    Bicubic in space, slot by slot, as MMAction2's ``VisionTransformer`` and
    MAE do it (DINO's scale factor, off by 0.1 pixel, gives other values);
    then linear in time.

    Args:
        positions: (1, L, D), in token order.
        old: (t, h, w), the grid that they are of, t*h*w = L.
        new: (t, h, w), the grid wanted.

    Returns:
        (1, L', D). ``positions`` itself if the grid is the same.
    """
    if new[1:] != old[1:]:
        table = rearrange(
            positions, '1 (t h w) d -> t d h w', h=old[1], w=old[2]
        )
        table = F.interpolate(table, new[1:], mode='bicubic')
        positions = rearrange(table, 't d h w -> 1 (t h w) d')
    if new[0] != old[0]:
        table = rearrange(positions, '1 (t l) d -> l d t', t=old[0])
        table = F.interpolate(table, new[0], mode='linear')
        positions = rearrange(table, 'l d t -> 1 (t l) d')
    return positions


class TokenSplit(NamedTuple):
    """Indices of the tokens that are encoded, and of those predicted.

    Attributes:
        visible: (B, V), int64: the visible tokens, in token order.
        masked: (B, M), int64: the masked tokens that are predicted, in token
            order. All that are masked, unless there is decoder masking.
        num_tokens: L, the tokens of one clip.
    """

    visible: Tensor
    masked: Tensor
    num_tokens: int


def split_mask(mask: Tensor) -> TokenSplit:
    """The indices of visible and of masked tokens, in token order.

    Args:
        mask: (B, L), bool, True = masked (removed). Every clip has the same
            number of masked tokens. To split a mask on a GPU the host must
            wait for it, to use a split it need not.

    Returns:
        The split.

    Raises:
        TypeError: If the mask is not a bool tensor of two dimensions.
        ValueError: If the number of masked tokens differs between clips.

    Examples:
        >>> split = split_mask(torch.tensor([[True, False, True]]))
        >>> split.visible.tolist(), split.masked.tolist()
        ([[1]], [[0, 2]])
    """
    if mask.dtype != torch.bool or mask.ndim != 2:
        raise TypeError(
            'A mask is a bool tensor (B, L), True = masked; got '
            f'{mask.dtype} {tuple(mask.shape)}.'
        )
    counts = set(mask.sum(1).tolist())
    if len(counts) > 1:
        raise ValueError(
            'Every clip of a batch must have the same number of '
            f'masked tokens; got {sorted(counts)}.'
        )
    return TokenSplit(_true_places(~mask), _true_places(mask), mask.size(1))


def _true_places(mask: Tensor) -> Tensor:
    """The column of each True, a row for each row: (B, N), int64."""
    places = mask.nonzero()[:, 1]
    return places.view(len(mask), len(places) // max(len(mask), 1))
