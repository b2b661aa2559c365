# Copyright (c) MotionMAE contributors. All rights reserved.
import pytest
import torch
from mmaction.registry import MODELS


@pytest.mark.parametrize('patch_size', [2, 4])
def test_feature_of_a_patch_is_its_pixels(patch_size):
    frames = torch.randn(2, 3, 8, 12)
    model = MODELS.build(dict(type='RawPixels', patch_size=patch_size))
    maps = model(frames)
    p = patch_size
    assert maps.shape == (2, 3 * p * p, 8 // p, 12 // p)
    for row in range(8 // p):
        for column in range(12 // p):
            patch = frames[
                :, :, row * p : (row + 1) * p, column * p : (column + 1) * p
            ]
            torch.testing.assert_close(
                maps[:, :, row, column].sort(1).values,
                patch.flatten(1).sort(1).values,
            )
    # The same pixel of each patch is in the same place.
    ramp = torch.arange(3.0 * p * p).view(1, 3, p, p).tile(1, 1, 8 // p, 1)
    maps = model(ramp)
    assert (maps == maps[:, :, :1, :1]).all()
