# Copyright (c) MotionMAE contributors. All rights reserved.
import json

import numpy as np
import pytest
from helpers import naive_masks as naive
from helpers.small_sequences import IMAGE, draw_sequence, pack
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

CRW = dict(type='SegmentationCodec', downsample='bilinear', min_max=False)


def predict(cfg, num_frames=4, late_masks=None):
    """The masks predicted by a baseline, and the true ones."""
    frames, masks = draw_sequence(num_frames)
    video, sample = pack(frames, masks, late_masks)
    data = dict(inputs=[video], data_samples=[sample])
    (result,) = MODELS.build(cfg).test_step(data)
    assert result.pred_masks.dtype == np.uint8
    return result.pred_masks, masks


def test_copy_first_mask():
    predicted, masks = predict(dict(type='CopyFirstMask'))
    assert predicted.shape == masks.shape
    for mask in predicted:
        np.testing.assert_array_equal(mask, masks[0])
    assert (masks[-1] != masks[0]).mean() > 0.1


@pytest.mark.parametrize('patch_size', [4, 8, 16])
def test_grid_oracle_is_the_true_mask_through_the_grid(patch_size):
    predicted, masks = predict(dict(type='GridOracle', patch_size=patch_size))
    grid = (48 // patch_size, 80 // patch_size)
    ids = (0, 3, 7, 200)
    for mask, truth in zip(predicted, masks, strict=True):
        maps = naive.encode_dino(truth, ids, grid)
        expected = naive.nearest(
            naive.decode(maps, ids, IMAGE, True), truth.shape, 'pillow'
        )
        assert (mask != expected).mean() < 1e-3


def test_grid_oracle_with_the_labels_of_crw():
    predicted, masks = predict(
        dict(type='GridOracle', patch_size=8, codec=CRW)
    )
    ids = (0, 3, 7, 200)
    for mask, truth in zip(predicted, masks, strict=True):
        maps = naive.encode_crw(truth, ids, IMAGE, (6, 10))
        expected = naive.nearest(
            naive.decode(maps, ids, IMAGE, False), truth.shape, 'pillow'
        )
        assert (mask != expected).mean() < 1e-3


def test_grid_oracle_is_better_on_a_finer_grid():
    share = []
    for patch_size in (4, 8, 16):
        predicted, masks = predict(
            dict(type='GridOracle', patch_size=patch_size)
        )
        share.append((predicted == masks).mean())
    assert 0.95 > share[0] > share[1] > share[2] > 0.6


def test_finished_sequences_and_calls():
    frames, masks = draw_sequence(3)
    finished = ActionDataSample(metainfo=dict(finished=True))
    for name in ('CopyFirstMask', 'GridOracle'):
        video, sample = pack(frames, masks)
        model, calls = MODELS.build(dict(type=name)), []
        model.on_frame = lambda calls=calls: calls.append(1)
        results = model.test_step(
            dict(inputs=[None, video], data_samples=[finished, sample])
        )
        assert 'pred_masks' not in results[0]
        assert results[1].pred_masks.shape == masks.shape
        assert len(calls) == 3


def test_there_is_nothing_to_train():
    model = MODELS.build(dict(type='CopyFirstMask'))
    with pytest.raises(ValueError, match="can only predict, not 'loss'"):
        model([], [], mode='loss')


def test_grid_oracle_needs_all_masks():
    video, sample = pack(*draw_sequence(3))
    del sample.gt_masks[1]
    sample.set_metainfo(dict(sequence='name'))
    model = MODELS.build(dict(type='GridOracle'))
    with pytest.raises(ValueError, match='name: GridOracle .* of frame 1'):
        model.test_step(dict(inputs=[video], data_samples=[sample]))


def test_protocol():
    copy = MODELS.build(dict(type='CopyFirstMask')).protocol
    assert copy == dict(baseline='CopyFirstMask')
    oracle = MODELS.build(
        dict(type='GridOracle', patch_size=8, codec=CRW)
    ).protocol
    assert json.loads(json.dumps(oracle)) == dict(
        baseline='GridOracle',
        patch_size=8,
        labels=dict(
            type='SegmentationCodec',
            downsample='bilinear',
            min_max=False,
            argmax_size='img',
            nearest='pillow',
            first_frame='given',
        ),
    )
