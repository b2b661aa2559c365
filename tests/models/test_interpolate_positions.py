# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmotionmae.models.utils.tubelet import interpolate_positions


def test_same_grid_is_left_alone():
    table = torch.randn(1, 24, 5)
    assert interpolate_positions(table, (2, 3, 4), (2, 3, 4)) is table


@pytest.mark.parametrize('new', [(5, 7), (3, 3), (2, 9), (1, 1)])
def test_space_is_bicubic_slot_by_slot(new):
    table = torch.randn(1, 3 * 4 * 6, 5)
    result = interpolate_positions(table, (3, 4, 6), (3, *new))
    # As the forward pass of MMAction2's VisionTransformer has it.
    maps = table.reshape(-1, 4, 6, 5).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=new, mode='bicubic', align_corners=False)
    expected = maps.permute(0, 2, 3, 1).flatten(1, 2).reshape(1, -1, 5)
    assert torch.equal(result, expected)


@pytest.mark.parametrize('slots', [1, 2, 3, 7, 12, 16])
def test_time_is_linear(slots):
    """Between the centres of the slots; constant beyond the outer ones."""
    table = torch.randn(6, 8, 5)
    result = interpolate_positions(
        table.reshape(1, -1, 5), (6, 2, 4), (slots, 2, 4)
    )
    centres = (np.arange(slots) + 0.5) * 6 / slots - 0.5
    columns = table.flatten(1).double().numpy().T
    expected = [np.interp(centres, np.arange(6), c) for c in columns]
    np.testing.assert_allclose(
        result.reshape(slots, -1), np.transpose(expected), atol=1e-6
    )


def test_a_table_linear_in_time_is_reproduced():
    """Of 8 slots half as many: each the mean of two."""
    slope = torch.randn(6)
    table = torch.arange(8.0)[:, None] * slope + 3
    result = interpolate_positions(table[None], (8, 1, 1), (4, 1, 1))
    torch.testing.assert_close(result[0], table.reshape(4, 2, 6).mean(1))


def test_time_and_space_together():
    table = torch.randn(1, 2 * 3 * 4, 5)
    result = interpolate_positions(table, (2, 3, 4), (3, 6, 5))
    in_space = interpolate_positions(table, (2, 3, 4), (2, 6, 5))
    early, late = in_space.unflatten(1, (2, 30)).unbind(1)
    expected = torch.cat([early, (early + late) / 2, late], 1)
    torch.testing.assert_close(result, expected)


def test_gradients_reach_learnt_positions():
    table = torch.randn(1, 12, 5, requires_grad=True)
    interpolate_positions(table, (2, 2, 3), (4, 4, 4)).sum().backward()
    assert table.grad is not None and table.grad.abs().sum() > 0
