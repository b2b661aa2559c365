# Copyright (c) MotionMAE contributors. All rights reserved.
import json

import numpy as np
import pytest
import torch
from conftest import TINY_BACKBONE
from helpers import naive_masks
from helpers import naive_propagation as naive
from helpers.small_sequences import (
    CRW,
    DINO,
    IMAGE,
    ORIGINAL,
    PATCH,
    draw_sequence,
    features_of,
    pack,
)
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from mmmotionmae.datasets import DAVISDataset, moving_shapes
from mmmotionmae.models import LabelPropagation

FORMS = dict(dino=DINO, crw=CRW)


def build(form='dino', **changes):
    cfg = dict(
        type='LabelPropagation',
        backbone=dict(type='RawPixels', patch_size=PATCH),
    )
    return MODELS.build(cfg | FORMS[form] | changes).eval()


def naive_masks_of(form, video, masks, late_masks=None, features=None):
    """Frame by frame, in float64."""
    late_masks = late_masks or {}
    if features is None:
        features = features_of(video)
    grid = tuple(size // PATCH for size in video.shape[-2:])
    original, image = masks[0].shape, tuple(video.shape[-2:])
    ids = sorted(
        {
            *np.unique(masks[0]),
            *(n for new in late_masks.values() for n in new),
        }
        | ({0} if form == 'dino' else set())
    )

    def encode(mask):
        if form == 'dino':
            return naive_masks.encode_dino(mask, ids, grid)
        return naive_masks.encode_crw(mask, ids, image, grid)

    def decode(maps):
        mask = naive_masks.decode(maps, ids, image, form == 'dino')
        rule = 'pillow' if form == 'dino' else 'opencv'
        return naive_masks.nearest(mask, original, rule)

    first = encode(masks[0])
    result = [masks[0] if form == 'dino' else decode(first)]
    past = [(features[0], first.reshape(len(ids), -1).T)]
    given = [0]
    for number in range(1, len(video)):
        if form == 'dino':
            context = naive.contexts(past, given, 3)
            labels = naive.dino(features[number], context, grid[1], 5, 0.1, 2)
        else:
            context = naive.contexts(past, given, 3, False, True)
            labels = naive.crw(features[number], context, grid[1], 7, 0.7, 4)
        maps = labels.T.reshape(len(ids), *grid)
        result.append(decode(maps))
        if number in late_masks:
            inside = np.isin(masks[number], late_masks[number])
            result[-1] = np.where(inside, masks[number], result[-1])
            new = encode(np.where(inside, masks[number], 0))
            new[[n not in late_masks[number] for n in ids]] = 0
            maps = maps * (1 - new.sum(0)) + new
            given.append(number)
        past.append((features[number], maps.reshape(len(ids), -1).T))
    return np.stack(result)


def assert_masks_equal(masks, expected):
    """But for a pixel where two labels are equal up to rounding."""
    assert masks.dtype == np.uint8
    assert masks.shape == expected.shape
    assert (masks != expected).mean() < 1e-3


# The two published forms


@pytest.mark.parametrize('ids', [(1,), (3, 7, 200)])
@pytest.mark.parametrize('num_frames', [1, 2, 7])
@pytest.mark.parametrize('form', FORMS)
def test_masks_of_a_sequence(form, num_frames, ids):
    frames, masks = draw_sequence(num_frames, ids)
    video, sample = pack(frames, masks[:1])
    (result,) = build(form).predict([video], [sample])
    assert result is sample
    expected = naive_masks_of(form, video, masks)
    assert_masks_equal(sample.pred_masks, expected)
    if form == 'dino':
        np.testing.assert_array_equal(sample.pred_masks[0], masks[0])
    # The comparison means something: objects move, none is lost.
    for mask in sample.pred_masks:
        assert np.unique(mask).tolist() == [0, *ids]
    if num_frames == 7:
        assert (sample.pred_masks[-1] != masks[0]).mean() > 0.1
        assert (sample.pred_masks[-1] == masks[-1]).mean() > 0.6


@pytest.mark.parametrize('form', FORMS)
def test_an_object_lost_by_the_grid(form):
    frames, masks = draw_sequence(4)
    masks[0][masks[0] == 200] = 0
    masks[0][0, 0] = 200  # of all pixels not the middle of a patch
    video, sample = pack(frames, masks[:1])
    build(form).predict([video], [sample])
    assert_masks_equal(sample.pred_masks, naive_masks_of(form, video, masks))
    assert not (sample.pred_masks[1:] == 200).any()
    assert (sample.pred_masks[0] == 200).any() == (form == 'dino')


@pytest.mark.parametrize('value', [0, 9])
@pytest.mark.parametrize('form', FORMS)
def test_a_first_mask_of_one_value(form, value):
    """Without objects; without background."""
    frames, masks = draw_sequence(4)
    masks[0] = value
    video, sample = pack(frames, masks[:1])
    build(form).predict([video], [sample])
    assert (sample.pred_masks == value).all()


@pytest.mark.parametrize('form', FORMS)
def test_a_first_mask_without_background(form):
    frames, masks = draw_sequence(4)
    masks[0][masks[0] == 0] = 3
    video, sample = pack(frames, masks[:1])
    build(form).predict([video], [sample])
    assert_masks_equal(sample.pred_masks, naive_masks_of(form, video, masks))
    assert (sample.pred_masks > 0).all()


@pytest.mark.parametrize('form', FORMS)
def test_objects_that_appear_later(form):
    frames, masks = draw_sequence(7)
    for number, first in ((7, 2), (200, 4)):
        before = masks[:first]  # a view
        before[before == number] = 0
    video, sample = pack(frames, masks, {2: [7], 4: [200]})
    build(form).predict([video], [sample])
    assert_masks_equal(
        sample.pred_masks,
        naive_masks_of(form, video, masks, {2: [7], 4: [200]}),
    )
    for number, mask in enumerate(sample.pred_masks):
        ids = [0, 3] + [7] * (number >= 2) + [200] * (number >= 4)
        assert set(np.unique(mask)) <= set(ids)
    # Where they are given they are as given.
    for number, new in ((2, 7), (4, 200)):
        np.testing.assert_array_equal(
            sample.pred_masks[number] == new, masks[number] == new
        )


def test_a_still_video_keeps_its_labels():
    frames, masks = draw_sequence(1)
    video, sample = pack(frames.repeat(12, 0), masks)
    build(topk=1).predict([video], [sample])
    assert (sample.pred_masks[1:] == sample.pred_masks[1]).all()
    assert (sample.pred_masks[1] == masks[0]).mean() > 0.8


def test_num_context():
    """Without frames before there is the first one alone."""
    frames, masks = draw_sequence(5)
    for form in FORMS:
        video, sample = pack(frames, masks[:1])
        build(form, num_context=0).predict([video], [sample])
        alone = sample.pred_masks[4]
        pair = pack(frames[[0, 4]], masks[:1])
        build(form, num_context=0).predict([pair[0]], [pair[1]])
        np.testing.assert_array_equal(alone, pair[1].pred_masks[1])
        build(form).predict([video], [sample])
        assert (sample.pred_masks[4] != alone).any()


# Batches


@pytest.mark.parametrize('form', FORMS)
def test_sequences_do_not_influence_each_other(form):
    model = build(form)
    singles, batch = [], []
    for seed, num_frames in enumerate((3, 1, 5)):
        frames, masks = draw_sequence(num_frames, seed=seed)
        video, sample = pack(frames, masks[:1])
        model.predict([video], [sample])
        singles.append(sample.pred_masks)
        batch.append(pack(frames, masks[:1]))
    videos, samples = zip(*batch, strict=True)
    for sample, single in zip(
        model.predict(videos, samples), singles, strict=True
    ):
        np.testing.assert_array_equal(sample.pred_masks, single)


def test_finished_sequences_come_back_as_they_are():
    frames, masks = draw_sequence(2)
    video, sample = pack(frames, masks[:1])
    finished = ActionDataSample(metainfo=dict(finished=True))
    data = dict(inputs=[None, video], data_samples=[finished, sample])
    results = build().test_step(data)
    assert results[0].metainfo == dict(finished=True)
    assert 'pred_masks' not in results[0]
    assert results[1].pred_masks.shape == (2, *ORIGINAL)


def test_on_frame_is_called_for_each_frame():
    frames, masks = draw_sequence(4)
    video, sample = pack(frames, masks[:1])
    model, calls = build(), []
    model.on_frame = lambda: calls.append(1)
    model.predict([video], [sample])
    assert len(calls) == 4


def test_no_gradients_and_inputs_stay_as_they_are():
    frames, masks = draw_sequence(3)
    video, sample = pack(frames, masks[:1])
    copy = video.clone()
    model = LabelPropagation(backbone=TINY_BACKBONE).eval()
    seen = []
    features = model.features

    def watched(*args):
        for maps in features(*args):
            seen.append(maps.requires_grad)
            yield maps

    model.features = watched
    model([video], [sample], mode='predict')
    assert seen == [False] * 3
    assert torch.equal(video, copy)
    np.testing.assert_array_equal(sample.gt_masks[0], masks[0])


def test_from_the_files_of_davis_to_the_masks(tmp_path):
    moving_shapes.write_dataset(
        tmp_path / 'data',
        num_pretrain=0,
        num_train=0,
        num_val=0,
        num_davis=2,
        davis_frames=4,
        davis_size=64,
        disable=True,
    )
    dataset = DAVISDataset(
        data_root=str(tmp_path / 'data/davis'),
        pipeline=[
            dict(type='LoadSequence', size=IMAGE),
            dict(type='LoadMasks'),
            dict(type='PackSequence'),
        ],
    )
    loader = DataLoader(dataset, batch_size=1, collate_fn=pseudo_collate)
    model = build()
    for number, data in enumerate(loader):
        (sample,) = model.test_step(data)
        assert sample.pred_masks.shape == (4, 64, 64)
        assert sample.sequence == f'shapes-0{number}'
        masks = [sample.gt_masks[0]]
        assert_masks_equal(
            sample.pred_masks,
            naive_masks_of('dino', data['inputs'][0], masks),
        )
        assert sample.pred_masks.max() == number + 1


def test_joints():
    """A frame that moves by whole patches takes the joints along."""
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (3, 64, 96), np.uint8)
    video = torch.from_numpy(
        np.stack([np.roll(still, 8 * t, 2) for t in range(4)])
    )
    joints = np.full((4, 3, 2), np.nan, np.float32)
    joints[0] = [(20, 20), (36, 44), (np.nan, np.nan)]
    sample = ActionDataSample(
        metainfo=dict(
            original_shape=(128, 192), img_shape=(64, 96), keypoints=joints * 2
        )
    )
    build(topk=1, codec=dict(type='KeypointCodec')).predict([video], [sample])
    found = sample.pred_keypoints
    assert found.shape == (4, 3, 2) and found.dtype == np.float32
    steps = np.arange(4)[:, None, None] * [16, 0]
    np.testing.assert_allclose(found[:, :2], found[:1, :2] + steps, atol=1e-3)
    assert np.isnan(found[:, 2]).all()
    assert np.abs(found[0, :2] - joints[0, :2] * 2).max() <= 8


# Errors, and what goes into the results


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_features_that_are_not_finite(value):
    frames, masks = draw_sequence(3)
    video, sample = pack(frames, masks[:1])
    model = LabelPropagation(backbone=TINY_BACKBONE).eval()
    with torch.no_grad():
        model.backbone.norm.bias[0] = value
    with pytest.raises(ValueError, match='features of frame 0 are not finite'):
        model.predict([video], [sample])
    assert 'pred_masks' not in sample


def test_patches_without_any_feature():
    """Grey of the mean has a feature of length 0: all are as near."""
    frames, masks = draw_sequence(3)
    frames[:] = 9
    video, sample = pack(frames, masks[:1])
    preprocessor = dict(
        type='SequenceDataPreprocessor', mean=[9] * 3, std=[1] * 3
    )
    build(data_preprocessor=preprocessor).predict([video], [sample])
    nothing = np.zeros((3, 60, 4))
    assert_masks_equal(
        sample.pred_masks,
        naive_masks_of('dino', video, masks, features=nothing),
    )


@pytest.mark.parametrize('mode', ['loss', 'tensor'])
def test_it_can_only_predict(mode):
    frames, masks = draw_sequence(2)
    video, sample = pack(frames, masks[:1])
    with pytest.raises(ValueError, match=f'can only predict, not .{mode}'):
        build()([video], [sample], mode=mode)


@pytest.mark.parametrize(
    'bad, error, message',
    [
        (dict(num_context=-1), ValueError, 'num_context must not be below 0'),
        (dict(window='round'), ValueError, "'square' or 'circle'"),
        (
            dict(features=dict(block=3)),
            ValueError,
            'RawPixels has no choice of features',
        ),
        (dict(neighbours=3), TypeError, 'neighbours'),
    ],
)
def test_bad_arguments(bad, error, message):
    with pytest.raises(error, match=message):
        build(**bad)


def test_bad_arguments_of_the_features():
    with pytest.raises(TypeError, match='tempo'):
        LabelPropagation(backbone=TINY_BACKBONE, features=dict(tempo='pair'))
    with pytest.raises(ValueError, match='there is no block 5'):
        LabelPropagation(backbone=TINY_BACKBONE, features=dict(block=5))


def test_protocol_holds_all_that_decides():
    arguments = dict(temporal='window', block=-2, facet='key')
    model = LabelPropagation(backbone=TINY_BACKBONE, features=arguments, **CRW)
    protocol = json.loads(json.dumps(model.protocol))
    assert protocol['features'] == dict(
        backbone='MotionMAEViT',
        temporal='window',
        num_frames=8,
        block=0,
        facet='key',
    )
    assert protocol['propagation'] == {
        name: value for name, value in CRW.items() if name != 'codec'
    }
    assert protocol['labels'] == CRW['codec'] | dict(argmax_size='img')
    assert protocol['normalisation']['mean'] == pytest.approx(
        [123.675, 116.28, 103.53]
    )
    assert protocol['normalisation']['std'] == pytest.approx(
        [58.395, 57.12, 57.375]
    )


def test_default_form_is_that_of_dino():
    model = MODELS.build(
        dict(type='LabelPropagation', backbone=dict(type='RawPixels'))
    )
    assert model.protocol['propagation'] == dict(
        topk=5,
        temperature=0.1,
        radius=12,
        window='square',
        first_local=True,
        num_context=7,
        pad_context=False,
        keep_ties=True,
    )
    assert model.protocol['labels'] == dict(
        type='SegmentationCodec',
        downsample='nearest',
        min_max=True,
        argmax_size='img',
        nearest='pillow',
        first_frame='given',
    )
