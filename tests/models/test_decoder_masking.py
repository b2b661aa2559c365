# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
import torch
from conftest import as_batch, tube_mask
from mmaction.registry import MODELS

from mmmotionmae.models.utils.decoder_masking import (
    mask_decoder,
    running_cell,
)
from mmmotionmae.models.utils.tubelet import split_mask

RATIOS = [0.25, 0.5, 0.75]


def naive_running_cell(grid, ratio, phase):
    """Loops: a queue of four that turns by one from slot to slot."""
    t, h, w = grid
    out = int(4 * ratio)
    queue = [True] * out + [False] * (4 - out)
    mask = np.zeros(grid, dtype=bool)
    for slot in range(t):
        turned = queue[(phase + slot) % 4 :] + queue[: (phase + slot) % 4]
        for y in range(h):
            for x in range(w):
                mask[slot, y, x] = turned[(y % 2) * 2 + x % 2]
    return torch.from_numpy(mask.reshape(-1))


@pytest.mark.parametrize('ratio', RATIOS)
@pytest.mark.parametrize('grid', [(8, 14, 14), (3, 4, 6), (2, 5, 3)])
def test_running_cell_equals_loops(grid, ratio):
    masks = running_cell(grid, ratio, torch.arange(4))
    for phase in range(4):
        expected = naive_running_cell(grid, ratio, phase)
        assert torch.equal(masks[phase], expected)
    # Every place is left out equally often over the phases.
    assert set(masks.sum(0).tolist()) == {int(4 * ratio)}


@pytest.mark.parametrize('ratio', RATIOS)
def test_of_a_tube_mask_the_cells_tokens_are_left(ratio):
    """Four slots, so every clip keeps as many: no token is random."""
    masked = split_mask(tube_mask(16)).masked
    chosen = mask_decoder(masked, (4, 4, 4), ratio)
    assert chosen.shape == (16, round(48 * (1 - ratio)))
    seen = set()
    for tokens, all_tokens in zip(chosen, masked, strict=True):
        fits = []
        for phase in range(4):
            cell = naive_running_cell((4, 4, 4), ratio, phase)
            left_in = all_tokens[~cell[all_tokens]]
            fits.append(torch.equal(tokens, left_in))
        assert any(fits)
        seen.add(fits.index(True))
    assert len(seen) > 1  # other phases in other clips


def test_uneven_masks_keep_equal_numbers():
    mask = torch.rand(32, 60).argsort(1) < 45
    masked = split_mask(mask).masked
    chosen = mask_decoder(masked, (3, 4, 5), 0.5)
    assert chosen.shape == (32, round(45 / 2))
    cells = [naive_running_cell((3, 4, 5), 0.5, phase) for phase in range(4)]
    for tokens, all_tokens in zip(chosen, masked, strict=True):
        kept = tokens.tolist()
        assert kept == sorted(set(kept)) and set(kept) <= set(
            all_tokens.tolist()
        )
        # Others come in only once all that the cell leaves in are taken.
        left_in = [
            set(all_tokens[~cell[all_tokens]].tolist()) for cell in cells
        ]
        assert any(
            inside <= set(kept) or set(kept) <= inside for inside in left_in
        )


def build(**kwargs):
    return MODELS.build(
        dict(
            type='MotionMAEDataPreprocessor',
            patch_size=8,
            tubelet_size=2,
            **kwargs,
        )
    )


def test_only_in_training():
    mask = tube_mask(2)
    frames = torch.randint(256, (2, 3, 8, 32, 32), dtype=torch.uint8)
    processor = build(decoder_mask_ratio=0.5)
    batch = as_batch(frames, mask)
    whole = split_mask(mask)
    tested = processor(batch)['inputs']['split']
    assert torch.equal(tested.masked, whole.masked)
    trained = processor(batch, training=True)['inputs']['split']
    assert torch.equal(trained.visible, whole.visible)
    assert trained.masked.shape == (2, 24) and trained.num_tokens == 64


def test_a_masked_decoder_has_the_loss_of_its_tokens(tiny_model):
    """Half the tokens in, half the tokens' predictions out."""
    frames = torch.randint(256, (2, 3, 8, 32, 32), dtype=torch.uint8)
    model = tiny_model(
        data_preprocessor=dict(
            type='MotionMAEDataPreprocessor', decoder_mask_ratio=0.5
        )
    )
    data = model.data_preprocessor(as_batch(frames, tube_mask(2)), True)
    losses = model(**data, mode='loss')
    inputs = data['inputs']
    tokens = model.neck(
        model.backbone(inputs['clip'], inputs['split']), inputs['split']
    )
    assert tokens['pixel'].shape == (2, 24, 16)
    expected = model.head.loss(tokens, inputs['videos'], inputs['split'])
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


@pytest.mark.parametrize('ratio', [1.0, 0.3, -0.25])
def test_ratios_that_do_not_divide_a_cell(ratio):
    with pytest.raises(ValueError, match='must be 0, 0.25, 0.5 or 0.75'):
        build(decoder_mask_ratio=ratio)


def test_no_token_left():
    with pytest.raises(ValueError, match='leaves none of 1 masked tokens'):
        mask_decoder(torch.zeros(1, 1, dtype=torch.int64), (1, 2, 2), 0.75)
