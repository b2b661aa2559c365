# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
import torch
from mmaction.registry import TRANSFORMS

from mmmotionmae.models.utils.tubelet import patchify

TUBE = dict(type='TubeMasking')
SLOT = dict(type='RandomMasking')
CLIP = dict(type='RandomMasking', scope='clip')
FRAME = dict(type='FrameMasking')


@pytest.fixture(autouse=True)
def _seed():
    np.random.seed(0)


def masks_of(cfg, grid, ratio, num_clips=1):
    """Masks (N, t, h, w) as nested lists; a token is 2 frames of 4x4."""
    t, h, w = grid
    transform = TRANSFORMS.build(
        cfg | dict(mask_ratio=ratio, patch_size=4, tubelet_size=2)
    )
    imgs = np.zeros((num_clips, 3, 2 * t, 4 * h, 4 * w), dtype=np.uint8)
    mask = transform(dict(imgs=imgs))['mask']
    assert isinstance(mask, torch.Tensor) and mask.dtype == torch.bool
    assert mask.shape == (num_clips, t * h * w)
    return mask.view(num_clips, t, h, w).tolist()


def masked_in(slot):
    """Number of masked tokens in a slot, counted one by one."""
    count = 0
    for row in slot:
        for token in row:
            if token:
                count += 1
    return count


GRIDS = [
    ((8, 14, 14), 0.9),
    ((8, 14, 14), 0.75),
    ((4, 3, 5), 0.5),
    ((2, 4, 4), 0.99),
]


@pytest.mark.parametrize(('grid', 'ratio'), GRIDS)
def test_tube_masks_the_same_places_in_every_slot(grid, ratio):
    (slots,) = masks_of(TUBE, grid, ratio)
    assert masked_in(slots[0]) == int(ratio * grid[1] * grid[2])
    for slot in slots[1:]:
        assert slot == slots[0]


@pytest.mark.parametrize(('grid', 'ratio'), GRIDS)
def test_random_masks_as_many_places_in_every_slot(grid, ratio):
    (slots,) = masks_of(SLOT, grid, ratio)
    for slot in slots:
        assert masked_in(slot) == int(ratio * grid[1] * grid[2])
    assert any(slot != slots[0] for slot in slots)


@pytest.mark.parametrize(('grid', 'ratio'), GRIDS)
def test_random_in_the_clip_masks_places_anywhere(grid, ratio):
    (slots,) = masks_of(CLIP, grid, ratio)
    counts = [masked_in(slot) for slot in slots]
    assert sum(counts) == int(ratio * grid[0] * grid[1] * grid[2])
    if ratio < 0.99:
        assert len(set(counts)) > 1


@pytest.mark.parametrize(
    ('slots', 'ratio', 'count'), [(8, 0.9, 7), (8, 0.75, 6), (3, 0.5, 1)]
)
def test_frame_masks_whole_slots(slots, ratio, count):
    (slots,) = masks_of(FRAME, (slots, 3, 5), ratio)
    assert sorted(masked_in(slot) for slot in slots) == (
        [0] * (len(slots) - count) + [15] * count
    )


@pytest.mark.parametrize(('ratio', 'count'), [(0.9, 176), (0.95, 186)])
@pytest.mark.parametrize('cfg', [TUBE, SLOT])
def test_published_counts(cfg, ratio, count):
    """0.9: VideoMAE's generator; 0.95: the demo of MotionMAE's authors."""
    (slots,) = masks_of(cfg, (8, 14, 14), ratio)
    assert [masked_in(slot) for slot in slots] == [count] * 8


@pytest.mark.parametrize('cfg', [TUBE, SLOT, CLIP, FRAME])
def test_every_clip_has_a_mask_of_its_own(cfg):
    masks = masks_of(cfg, (8, 6, 6), 0.5, num_clips=5)
    counts = {sum(masked_in(slot) for slot in slots) for slots in masks}
    assert len(counts) == 1
    assert len({str(slots) for slots in masks}) > 2


@pytest.mark.parametrize(
    ('cfg', 'share'),
    [(TUBE, 12 / 16), (SLOT, 12 / 16), (CLIP, 0.75), (FRAME, 3 / 4)],
)
def test_every_place_is_masked_equally_often(cfg, share):
    draws = 4000
    masks = np.array(masks_of(cfg, (4, 4, 4), 0.75, num_clips=draws))
    frequency = masks.mean(0)
    sigma = (share * (1 - share) / draws) ** 0.5
    assert np.abs(frequency - share).max() < 5 * sigma


@pytest.mark.parametrize('cfg', [TUBE, SLOT])
def test_every_pair_of_places_is_masked_equally_often(cfg):
    """12 of 16 places without replacement; no runs, no pattern."""
    draws = 4000
    masks = np.array(masks_of(cfg, (2, 4, 4), 0.75, num_clips=draws))
    first = masks[:, 0].reshape(draws, 16).astype(float)
    both = (first.T @ first / draws)[~np.eye(16, dtype=bool)]
    share = 12 / 16 * 11 / 15
    sigma = (share * (1 - share) / draws) ** 0.5
    assert np.abs(both - share).max() < 5 * sigma


def test_slots_of_random_masking_are_independent():
    draws = 4000
    masks = np.array(masks_of(SLOT, (4, 4, 4), 0.75, num_clips=draws))
    for t in range(1, 4):
        both = (masks[:, 0] & masks[:, t]).mean(0)
        share = 0.75**2
        sigma = (share * (1 - share) / draws) ** 0.5
        assert np.abs(both - share).max() < 5 * sigma


def test_token_order_is_that_of_the_model(monkeypatch):
    """The masked tokens of `patchify` are the pixels of `sample`."""
    wanted = np.random.rand(2, 3, 5) < 0.5
    transform = TRANSFORMS.build(TUBE | dict(patch_size=4))
    monkeypatch.setattr(transform, 'sample', lambda grid: wanted)
    imgs = np.zeros((1, 1, 4, 12, 20), dtype=np.uint8)
    for t in range(4):
        for y in range(12):
            for x in range(20):
                imgs[0, 0, t, y, x] = wanted[t // 2, y // 4, x // 4]
    mask = transform(dict(imgs=imgs))['mask']
    tubelets = patchify(torch.from_numpy(imgs), 2, 4)
    assert (tubelets[mask] == 1).all() and (tubelets[~mask] == 0).all()
    assert mask.tolist() == [
        [
            bool(wanted[t, y, x])
            for t in range(2)
            for y in range(3)
            for x in range(5)
        ]
    ]


def test_the_random_state_decides():
    np.random.seed(1)
    first = masks_of(SLOT, (4, 4, 4), 0.5)
    assert masks_of(SLOT, (4, 4, 4), 0.5) != first
    np.random.seed(1)
    assert masks_of(SLOT, (4, 4, 4), 0.5) == first


@pytest.mark.parametrize('cfg', [TUBE, SLOT, FRAME])
@pytest.mark.parametrize('ratio', [0, 1, -0.1, 1.5])
def test_a_ratio_outside_0_and_1(cfg, ratio):
    with pytest.raises(ValueError, match='between 0 and 1'):
        TRANSFORMS.build(cfg | dict(mask_ratio=ratio))


@pytest.mark.parametrize(
    ('cfg', 'ratio', 'message'),
    [
        (TUBE, 0.2, 'masks none of 4 places in TubeMasking'),
        (SLOT, 0.2, 'masks none of 4 places in RandomMasking'),
        (CLIP, 0.1, 'masks none of 8 places in RandomMasking'),
        (FRAME, 0.4, 'masks none of 2 places in FrameMasking'),
    ],
)
def test_nothing_masked(cfg, ratio, message):
    with pytest.raises(ValueError, match=message):
        masks_of(cfg, (2, 2, 2), ratio)


def test_unknown_scope():
    with pytest.raises(ValueError, match="not 'frame'"):
        TRANSFORMS.build(dict(type='RandomMasking', scope='frame'))


def test_the_wrong_place_in_the_pipeline():
    transform = TRANSFORMS.build(TUBE)
    frame = np.zeros((32, 32, 3), dtype=np.uint8)
    for imgs in ([frame] * 4, np.stack([frame] * 4)):
        with pytest.raises(ValueError, match='TubeMasking goes after Format'):
            transform(dict(imgs=imgs))


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        ((1, 3, 5, 32, 32), 'frames is 5'),
        ((1, 3, 4, 30, 32), 'height is 30'),
        ((1, 3, 4, 32, 40), 'width is 40'),
    ],
)
def test_a_size_that_does_not_divide(shape, message):
    transform = TRANSFORMS.build(SLOT)
    with pytest.raises(ValueError, match=message):
        transform(dict(imgs=np.zeros(shape, dtype=np.uint8)))
