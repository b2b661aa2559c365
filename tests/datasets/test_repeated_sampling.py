# Copyright (c) MotionMAE contributors. All rights reserved.
"""One decoding, several clips: `num_repeats` of RobustVideoDataset."""

import random

import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS
from mmcv.transforms import BaseTransform
from mmengine.dataset import COLLATE_FUNCTIONS

from mmmotionmae.utils.seeding import SampleIndex

DECODERS = dict(
    pyav=[dict(type='VideoInit', decoder='pyav'), dict(type='VideoDecode')],
    decord=[
        dict(type='VideoInit', decoder='decord'),
        dict(type='VideoDecode'),
    ],
    opencv=[
        dict(type='VideoInit', decoder='opencv'),
        dict(type='VideoDecode'),
    ],
    stock_decord=[dict(type='DecordInit'), dict(type='DecordDecode')],
    stock_pyav=[dict(type='PyAVInit'), dict(type='PyAVDecode')],
    stock_opencv=[dict(type='OpenCVInit'), dict(type='OpenCVDecode')],
    memory=[dict(type='DecodeToMemory'), dict(type='ArrayDecode')],
)
CLIP = [
    dict(type='RandomCrop', size=16),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='TubeMasking', mask_ratio=0.5, patch_size=8),
    dict(type='PackActionInputs', algorithm_keys=('mask',)),
]


def build(shapes_dir, decoder, num_repeats, clip=CLIP, **kwargs):
    init, decode = DECODERS[decoder]
    return DATASETS.build(
        dict(
            type='RobustVideoDataset',
            ann_file=str(shapes_dir / 'train.txt'),
            data_prefix=dict(video=str(shapes_dir)),
            pipeline=[
                dict(type='SeedSample'),
                init,
                dict(type='SampleFrames', clip_len=4, frame_interval=2),
                decode,
                *clip,
            ],
            num_repeats=num_repeats,
            **kwargs,
        )
    )


class Recorder(BaseTransform):
    """Remembers the random state of each clip."""

    def __init__(self):
        self.states = []

    def transform(self, results):
        self.states.append((random.getstate(), np.random.get_state()))
        return results


class Restorer(BaseTransform):
    """Puts the random generators into a remembered state."""

    def __init__(self, states):
        self.states = states

    def transform(self, results):
        random.setstate(self.states[0])
        np.random.set_state(self.states[1])
        return results


@pytest.mark.parametrize('decoder', DECODERS)
def test_clips_are_what_the_whole_pipeline_would_have_made(
    shapes_dir, decoder, monkeypatch
):
    """The same draws, clip by clip, each from a decoding of its own."""
    steps = list(CLIP)
    if decoder == 'stock_opencv':  # gives views that `Flip` does not take
        del steps[1]
    recorder = Recorder()
    repeated = build(shapes_dir, decoder, 4, [recorder, *steps])
    decode = type(repeated.pipeline.transforms[3])
    transform, decoded = decode.transform, []

    def counted(self, results):
        decoded.append(results['filename'])
        return transform(self, results)

    monkeypatch.setattr(decode, 'transform', counted)
    clips = repeated[SampleIndex(5, 17)]
    assert len(clips) == len(recorder.states) == 4
    assert len(decoded) == 1
    for clip, states in zip(clips, recorder.states, strict=True):
        plain = build(shapes_dir, decoder, 1, [Restorer(states), *steps])
        expected = plain[SampleIndex(5, 17)]
        assert torch.equal(clip['inputs'], expected['inputs'])
        sample, other = clip['data_samples'], expected['data_samples']
        assert torch.equal(sample.mask, other.mask)
        assert sample.gt_label == other.gt_label == 5
    assert len(decoded) == 5
    assert len({clip['inputs'].numpy().tobytes() for clip in clips}) > 1


def test_all_transforms_that_draw_differ_between_the_clips(shapes_dir):
    """Crop, flip and mask are drawn independently of each other."""
    keep = dict(
        type='PackActionInputs',
        algorithm_keys=('mask',),
        meta_keys=('crop_bbox', 'flip'),
    )
    dataset = build(shapes_dir, 'pyav', 16, [*CLIP[:-1], keep])
    samples = [clip['data_samples'] for clip in dataset[SampleIndex(0, 1)]]
    crops = {tuple(sample.crop_bbox.tolist()) for sample in samples}
    assert len(crops) > 8
    assert {bool(sample.flip) for sample in samples} == {False, True}
    masks = {sample.mask.numpy().tobytes() for sample in samples}
    assert len(masks) > 3  # of 6 possible ones


def test_in_place_transforms_do_not_reach_the_other_clips(shapes_dir):
    """`Flip` works in place on the decoded frames."""
    clip = [
        dict(type='Flip', flip_ratio=1.0),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]
    clips = build(shapes_dir, 'pyav', 3, clip)[SampleIndex(2, 3)]
    once = build(shapes_dir, 'pyav', 1, clip)[SampleIndex(2, 3)]
    not_flipped = build(shapes_dir, 'pyav', 1, clip[1:])[SampleIndex(2, 3)]
    for sample in clips:
        assert torch.equal(sample['inputs'], once['inputs'])
        assert torch.equal(sample['inputs'].flip(-1), not_flipped['inputs'])


@pytest.mark.parametrize('num_workers', [0, 2])
def test_a_batch_goes_through_the_model(shapes_dir, tiny_model, num_workers):
    dataset = build(
        shapes_dir,
        'pyav',
        3,
        [
            dict(type='RandomCrop', size=24),
            dict(type='FormatClip', size=32),
            dict(type='TubeMasking', mask_ratio=0.5, patch_size=8),
            dict(type='PackActionInputs', algorithm_keys=('mask',)),
        ],
    )
    dataset.pipeline.transforms[2].clip_len = 8
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=2,
        sampler=[SampleIndex(i, i) for i in range(4)],
        num_workers=num_workers,
        collate_fn=COLLATE_FUNCTIONS.get('repeat_pseudo_collate'),
    )
    model = tiny_model()
    videos = []
    for batch in loader:
        assert len(batch['inputs']) == len(batch['data_samples']) == 6
        videos += [int(s.gt_label) for s in batch['data_samples']]
        data = model.data_preprocessor(batch, True)
        assert data['inputs']['clip'].shape == (6, 3, 8, 32, 32)
        split = data['inputs']['split']
        assert split.visible.shape == split.masked.shape == (6, 32)
        losses = model(**data, mode='loss')
        assert all(torch.isfinite(torch.as_tensor(v)) for v in losses.values())
    assert videos == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_without_the_right_collate_function(shapes_dir, tiny_model):
    dataset = build(shapes_dir, 'pyav', 2)
    batch = COLLATE_FUNCTIONS.get('pseudo_collate')(
        [dataset[SampleIndex(i, i)] for i in range(2)]
    )
    with pytest.raises(TypeError, match='repeat_pseudo_collate'):
        tiny_model().data_preprocessor(batch, True)
