# Copyright (c) MotionMAE contributors. All rights reserved.
"""Targets of blocks of pixels."""

import pytest
import torch
import torch.nn.functional as F
from conftest import as_batch, tube_mask

from mmmotionmae.models.targets import (
    FrameDifferenceTarget,
    HOGTarget,
    PixelTarget,
    TubeletDifferenceTarget,
)
from mmmotionmae.models.utils.tubelet import split_mask
from mmmotionmae.utils.errors import UsageError

SIZE = dict(name='x', tubelet_size=2, patch_size=8)
TARGETS = (PixelTarget, FrameDifferenceTarget, TubeletDifferenceTarget)
NORMS = ('tubelet', 'clip', 'none', 'tubelet-floor')


@pytest.fixture
def clip():
    return torch.randint(256, (2, 3, 8, 32, 32), dtype=torch.uint8)


@pytest.fixture
def split():
    return split_mask(tube_mask())


@pytest.mark.parametrize('pool', [2, 4, 8])
@pytest.mark.parametrize('norm', ['tubelet', 'clip', 'none'])
@pytest.mark.parametrize('cls', TARGETS)
def test_values_are_those_of_a_smaller_video(clip, split, cls, norm, pool):
    """Pooled by PyTorch, in float64, and cut into smaller tubelets.

    A block as large as the tubelet leaves one value of each frame.
    """
    target = cls(**SIZE, norm=norm, pool=pool)
    video = target.video(clip)
    found = target.build(video, split.masked)
    assert target.num_values == 3 * 2 * (8 // pool) ** 2
    assert found.values.flatten(2).size(-1) == target.num_values
    small = F.avg_pool3d(video.double() / 255, (1, pool, pool)).float()
    same = cls(**SIZE | dict(patch_size=8 // pool), norm=norm)
    expected = same.build(small, split.masked)
    torch.testing.assert_close(
        found.values, expected.values, rtol=1e-3, atol=1e-4
    )
    for one, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize('pool', [1, 2, 4])
def test_a_flat_tubelet_stays_flat(split, pool):
    """Sums of integers are exact, whatever the level is."""
    for level in 7, 77, 179, 254:
        clip = torch.full((2, 3, 8, 32, 32), level, dtype=torch.uint8)
        found = PixelTarget(**SIZE, pool=pool).build(clip, split.masked)
        assert found.values.eq(0).all()


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('cls', TARGETS)
def test_a_prediction_is_spread_over_its_blocks(clip, split, cls, norm):
    """The true values, predicted, give the true mean of each block."""
    target = cls(**SIZE, norm=norm, pool=4)
    video = target.video(clip)
    pred = target.build(video, split.masked).values.flatten(2)
    found = target.reconstruct(pred, video, split)
    true = video.float() / 255
    means = F.avg_pool3d(true, (1, 4, 4))
    means = means.repeat_interleave(4, -1).repeat_interleave(4, -2)
    masked = torch.zeros(2, 64, dtype=torch.bool).scatter(
        1, split.masked, True
    )
    places = masked.view(2, 1, 4, 4, 4).float()
    places = F.interpolate(places, size=(8, 32, 32)).bool()
    expected = torch.where(places, means, true)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert target.reconstruct(pred, video, split, 'visible').isfinite().all()


def test_training_and_prediction(tiny_model, clip):
    model = tiny_model(
        targets=dict(
            pixel=dict(pool=2), motion=dict(pool=4, norm='tubelet-floor')
        ),
        head=dict(pixel_norm='clip'),
    )
    widths = {n: p.out_features for n, p in model.head.predictors.items()}
    assert widths == dict(pixel=3 * 2 * 16, motion=3 * 2 * 4)
    assert repr(model.targets['motion']).endswith("'tubelet-floor', pool=4)")
    assert 'pool' not in repr(PixelTarget(**SIZE))
    data = model.data_preprocessor(as_batch(clip, tube_mask()), True)
    losses = model(**data, mode='loss')
    assert losses['loss_pixel'].isfinite()
    (losses['loss_pixel'] + losses['loss_motion']).backward()
    samples = model(**data, mode='predict')
    assert samples[0].pixel_reconstruction.shape == (1, 3, 8, 32, 32)
    blocks = samples[0].motion_reconstruction.unfold(3, 4, 4).unfold(4, 4, 4)
    flat = blocks.flatten(5).var(-1) == 0
    masked = samples[0].mask.view(4, 4, 4).repeat_interleave(2, 0)
    masked = masked.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert flat[:, :, masked].all() and not flat.all()


@pytest.mark.parametrize('pool', [0, 3, 16])
def test_blocks_divide_a_tubelet(pool):
    with pytest.raises(UsageError, match=f'divide tubelets of 8.*not {pool}'):
        PixelTarget(**SIZE, pool=pool)


def test_cells_are_not_pooled():
    with pytest.raises(UsageError, match='give a larger cell_size'):
        HOGTarget(name='hog', pool=2)
