# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS, TRANSFORMS


def build(**kwargs):
    return TRANSFORMS.build(dict(type='FrameDifference', **kwargs))


def naive_motion(frames, mode, gap, first):
    """Motion of uint8 frames (T, H, W, C), one pixel after the other."""
    motion = np.zeros(frames.shape, dtype=np.float32)
    for t in range(len(frames)):
        for place in np.ndindex(*frames.shape[1:]):
            if t < gap and first == 'zero':
                continue
            now = max(t, gap)
            later = int(frames[(now, *place)])
            earlier = int(frames[(now - gap, *place)])
            difference = (later - earlier) / 255
            if mode == 'absolute':
                difference = abs(difference)
            motion[(t, *place)] = difference
    return motion


def random_frames(*shape):
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


@pytest.mark.parametrize('mode', ['signed', 'absolute'])
@pytest.mark.parametrize('gap', [1, 2, 3])
@pytest.mark.parametrize('first', ['repeat', 'zero'])
def test_both_layouts_equal_loops(mode, gap, first):
    transform = build(mode=mode, gap=gap, first=first)
    clips = random_frames(2, 5, 4, 6, 3)  # (N, T, H, W, C)
    expected = np.stack([naive_motion(c, mode, gap, first) for c in clips])
    assert (expected.min() < -0.5) == (mode == 'signed')

    imgs = list(clips.reshape(10, 4, 6, 3))
    results = transform(dict(imgs=imgs, num_clips=2, clip_len=5))
    assert results['imgs'] is imgs
    motion = results['motion']
    assert isinstance(motion, list) and len(motion) == 10
    assert {x.dtype for x in motion} == {np.dtype('float32')}
    as_list = np.stack(motion).reshape(clips.shape)
    np.testing.assert_allclose(as_list, expected, atol=1e-6)

    results = transform(dict(imgs=clips.transpose(0, 4, 1, 2, 3)))
    motion = results['motion']
    assert motion.dtype == np.float32 and motion.shape == (2, 3, 5, 4, 6)
    # The very same numbers.
    assert np.array_equal(motion.transpose(0, 2, 3, 4, 1), as_list)


def test_clips_do_not_leak_into_each_other():
    """Two clips at rest, of different brightness: no motion anywhere."""
    dark, bright = (np.full((4, 4, 4, 3), v, dtype=np.uint8) for v in (0, 255))
    clips = np.stack([dark, bright, dark])
    # `num_clips` counts clips of a video, not the crops of each of them.
    for num_clips in (3, 1):
        results = dict(
            imgs=list(clips.reshape(12, 4, 4, 3)),
            num_clips=num_clips,
            clip_len=4,
        )
        assert not np.stack(build()(results)['motion']).any()
    motion = build()(dict(imgs=clips.transpose(0, 4, 1, 2, 3)))['motion']
    assert not motion.any()


def test_motion_belongs_to_the_later_frame():
    """A point lights up in frame 2: the motion is there, and goes in 3."""
    clip = torch.zeros(5)
    clip[2] = 1
    assert build().difference(clip, dim=0).tolist() == [0, 0, 1, -1, 0]
    assert build(mode='absolute').difference(clip, dim=0).tolist() == [
        0,
        0,
        1,
        1,
        0,
    ]
    assert build(gap=2).difference(clip, dim=0).tolist() == [1, 1, 1, 0, -1]
    assert build(gap=2, first='zero').difference(clip, dim=0).tolist() == [
        0,
        0,
        1,
        0,
        -1,
    ]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_dtype_is_kept_and_the_clip_unchanged(dtype):
    clip = torch.rand(2, 3, 4, 5, 5, dtype=dtype)
    copy = clip.clone()
    motion = build(mode='absolute').difference(clip, dim=2)
    assert motion.dtype == dtype and motion.shape == clip.shape
    assert torch.equal(clip, copy)


@pytest.mark.parametrize(('frames', 'gap'), [(1, 1), (3, 3), (2, 3)])
def test_too_few_frames(frames, gap):
    message = f'{frames} frames has no difference of frames {gap} apart'
    with pytest.raises(ValueError, match=message):
        build(gap=gap)(dict(imgs=list(random_frames(frames, 4, 4, 3))))
    with pytest.raises(ValueError, match=message):
        build(gap=gap)(dict(imgs=random_frames(1, 3, frames, 4, 4)))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(mode='l1'), "not 'l1'"),
        (dict(gap=0), 'at least 1, not 0'),
        (dict(first='drop'), "not 'drop'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_frames_that_are_no_clips():
    with pytest.raises(ValueError, match=r'FormatShape.*\(8, 4, 4, 3\)'):
        build()(dict(imgs=random_frames(8, 4, 4, 3)))


@pytest.mark.parametrize('num_clips', [1, 2])
def test_works_in_a_stock_dataset(shapes_dir, num_clips):
    """Before and after `FormatShape`: the same motion, that of the clips."""
    decode = [
        dict(type='DecordInit'),
        dict(
            type='SampleFrames',
            clip_len=6,
            frame_interval=1,
            num_clips=num_clips,
            test_mode=True,
        ),
        dict(type='DecordDecode'),
        dict(type='Resize', scale=(-1, 16)),
    ]
    shape = dict(type='FormatShape', input_format='NCTHW')
    difference = dict(type='FrameDifference')
    pack = dict(type='PackActionInputs', collect_keys=('imgs', 'motion'))
    early, late = (
        DATASETS.build(
            dict(
                type='VideoDataset',
                ann_file=str(shapes_dir / 'train.txt'),
                data_prefix=dict(video=str(shapes_dir)),
                pipeline=decode + tail,
                test_mode=True,
            )
        )
        for tail in ([difference, shape], [shape, difference, pack])
    )
    for i in range(3):
        results = early[i]
        frames = results['imgs'].transpose(0, 2, 3, 4, 1)
        assert frames.shape == (num_clips, 6, 16, 16, 3)
        expected = np.stack(
            [naive_motion(clip, 'signed', 1, 'repeat') for clip in frames]
        )
        assert np.abs(expected).max() > 0.2  # something moves
        motion = np.stack(results['motion']).reshape(frames.shape)
        np.testing.assert_allclose(motion, expected, atol=1e-6)
        inputs = late[i]['inputs']
        assert np.array_equal(inputs['imgs'].numpy(), results['imgs'])
        assert np.array_equal(
            inputs['motion'].numpy().transpose(0, 2, 3, 4, 1), motion
        )


def test_three_crops():
    """Stock `ThreeCrop` puts three clips behind each other in the list."""
    clip = random_frames(4, 8, 12, 3)
    crop = TRANSFORMS.build(dict(type='ThreeCrop', crop_size=8))
    results = dict(imgs=list(clip), img_shape=(8, 12), num_clips=1, clip_len=4)
    motion = np.stack(build()(crop(results))['motion'])
    for i, x in enumerate((0, 4, 2)):
        expected = naive_motion(clip[:, :, x : x + 8], 'signed', 1, 'repeat')
        np.testing.assert_allclose(
            motion[4 * i : 4 * i + 4], expected, atol=1e-6
        )
