# Copyright (c) MotionMAE contributors. All rights reserved.
import pytest
import torch
from conftest import tube_mask

from mmmotionmae.models.utils.tubelet import (
    patchify,
    select_tokens,
    select_tubelets,
    split_mask,
    token_grid,
    unpatchify,
)


def naive_patchify(clip, tubelet_size, patch_size):
    """Nothing but loops and indices."""
    batch, channels, frames, height, width = clip.shape
    clips = []
    for b in range(batch):
        tokens = []
        for t in range(0, frames, tubelet_size):
            for y in range(0, height, patch_size):
                for x in range(0, width, patch_size):
                    token = []
                    for c in range(channels):
                        token.append(
                            [
                                clip[b, c, t + i, y + j, x + k].item()
                                for i in range(tubelet_size)
                                for j in range(patch_size)
                                for k in range(patch_size)
                            ]
                        )
                    tokens.append(token)
        clips.append(tokens)
    return torch.tensor(clips)


@pytest.mark.parametrize(
    ('shape', 'tubelet_size', 'patch_size'),
    [
        ((2, 3, 4, 8, 8), 2, 4),
        ((1, 3, 4, 4, 12), 1, 4),  # not square
        ((1, 1, 6, 6, 4), 3, 2),
        ((2, 2, 2, 4, 4), 2, 4),  # one tubelet
    ],
)
def test_patchify_equals_loops_and_has_an_inverse(
    shape, tubelet_size, patch_size
):
    clip = torch.rand(shape)
    tubelets = patchify(clip, tubelet_size, patch_size)
    expected = naive_patchify(clip, tubelet_size, patch_size)
    assert torch.equal(tubelets, expected)
    grid = token_grid(*shape[-3:], tubelet_size, patch_size)
    assert torch.equal(
        unpatchify(tubelets, grid, tubelet_size, patch_size), clip
    )


def test_select_tubelets_equals_gathering_from_all():
    clip = torch.rand(2, 3, 4, 8, 12)
    index = torch.tensor([[0, 5, 11], [3, 3, 7]])
    tubelets = patchify(clip, 2, 4)
    expected = torch.stack([tubelets[b, index[b]] for b in range(2)])
    assert torch.equal(select_tubelets(clip, index, 2, 4), expected)


@pytest.mark.parametrize('batch', [1, 2])
def test_select_tokens(batch):
    tokens = torch.rand(batch, 6, 5)
    index = torch.tensor([[0, 5], [4, 1]])
    expected = torch.stack([tokens[b % batch][index[b]] for b in range(2)])
    assert torch.equal(select_tokens(tokens, index), expected)


def test_split_mask_keeps_token_order():
    mask = tube_mask(3)
    visible, masked, num_tokens = split_mask(mask)
    assert num_tokens == 64
    for b in range(3):
        assert visible[b].tolist() == [
            i for i, m in enumerate(mask[b].tolist()) if not m
        ]
        assert masked[b].tolist() == [
            i for i, m in enumerate(mask[b].tolist()) if m
        ]


def test_split_mask_refuses_what_is_no_mask():
    with pytest.raises(TypeError, match='bool tensor'):
        split_mask(torch.zeros(2, 4))
    with pytest.raises(TypeError, match='bool tensor'):
        split_mask(torch.zeros(4, dtype=torch.bool))
    uneven = torch.tensor([[True, False], [True, True]])
    with pytest.raises(ValueError, match=r'same number.*\[1, 2\]'):
        split_mask(uneven)


@pytest.mark.parametrize(
    ('frames', 'height', 'width', 'what'),
    [
        (7, 32, 32, 'frames is 7'),
        (8, 30, 32, 'height is 30'),
        (8, 32, 33, 'width is 33'),
        (0, 32, 32, 'frames is 0'),
    ],
)
def test_token_grid_names_what_does_not_divide(frames, height, width, what):
    with pytest.raises(ValueError, match=what):
        token_grid(frames, height, width, tubelet_size=2, patch_size=8)
