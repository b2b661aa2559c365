# Copyright (c) MotionMAE contributors. All rights reserved.
"""Loading and formatting give what MMAction2's transforms give."""

import random

import cv2
import numpy as np
import pytest
import torch
from helpers.video_files import B_FRAMES, DECODERS, encode, picture
from mmaction.registry import DATASETS, TRANSFORMS
from mmcv.transforms import Compose

from mmmotionmae.datasets.readers import FrameFolderReader
from mmmotionmae.datasets.transforms import (
    FormatClip,
    VideoDecode,
    VideoInit,
    loading,
)
from mmmotionmae.utils.errors import VideoError

SAMPLES = [
    dict(clip_len=4, frame_interval=3),
    dict(clip_len=16, frame_interval=4),  # longer than the video
    dict(clip_len=3, frame_interval=2, num_clips=4),
    dict(clip_len=5, frame_interval=2, num_clips=3, test_mode=True),
    dict(clip_len=4, frame_interval=1, target_fps=30, keep_tail_frames=True),
]


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp('video') / 'a.mp4'
    encode(path, **B_FRAMES)
    return str(path)


@pytest.fixture(scope='module')
def frames_dir(tmp_path_factory):
    """A folder with two videos of 40 frames as images, and a list."""
    root = tmp_path_factory.mktemp('frames')
    for clip in ('a', 'b c'):
        (root / clip).mkdir()
        for t in range(40):
            image = picture(t + 3 * len(clip), (64, 48))
            cv2.imwrite(str(root / clip / f'img_{t + 1:05}.jpg'), image)
    return root


def build(*cfgs):
    return Compose([TRANSFORMS.build(dict(cfg)) for cfg in cfgs])


def run(pipeline, seed, **results):
    random.seed(seed)
    np.random.seed(seed)
    return pipeline(results)


def assert_same_results(ours, stock, but=()):
    assert set(ours) - set(but) == set(stock) - set(but)
    for key in set(ours) - set(but):
        assert np.array_equal(ours[key], stock[key]), key


# ------------------------------------------------------------------ videos


@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('sample', SAMPLES)
def test_videos_as_with_decord_init(video, decoder, sample):
    sample = dict(type='SampleFrames', **sample)
    stock = build(dict(type='DecordInit'), sample, dict(type='DecordDecode'))
    ours = build(
        dict(type='VideoInit', decoder=decoder),
        sample,
        dict(type='VideoDecode'),
    )
    info = dict(filename=video, start_index=0, modality='RGB', label=3)
    drawn = set()
    for seed in range(6):
        expected = run(stock, seed, **info)
        results = run(ours, seed, **info)
        drawn.add(tuple(results['frame_inds']))
        assert_same_results(results, expected, but=['video_reader'])
        assert 'video_reader' not in results
        assert len(results['imgs']) == len(results['frame_inds'])
        assert results['img_shape'] == results['original_shape'] == (96, 128)
        assert results['total_frames'] == 48
        assert results['avg_fps'] == 12
    assert (
        len(drawn) > 1
        or len(drawn) == 1
        and (sample.get('test_mode') or sample['clip_len'] == 16)
    )


def test_the_start_index_of_the_data_set_does_not_matter(video):
    """Frames of a video are counted from 0, whatever the config says."""
    pipeline = build(
        dict(type='VideoInit'),
        dict(type='SampleFrames', clip_len=48, frame_interval=1),
        dict(type='VideoDecode'),
    )
    results = run(pipeline, 0, filename=video, start_index=1)
    assert results['frame_inds'].tolist() == list(range(48))


def test_frames_in_any_order_and_repeated(video):
    transform = build(dict(type='VideoInit'), dict(type='VideoDecode'))
    whole = run(transform, 0, filename=video, frame_inds=np.arange(48))['imgs']
    indices = np.array([[40, 3, 3], [0, 40, 47], [3, 2, 1]])
    imgs = run(transform, 0, filename=video, frame_inds=indices)['imgs']
    assert len(imgs) == 9
    for index, img in zip(indices.ravel(), imgs, strict=True):
        assert np.array_equal(img, whole[index])
    # Changing one in place changes no other one.
    for i, img in enumerate(imgs):
        img[:] = i
    assert [np.unique(img).tolist() for img in imgs] == [[i] for i in range(9)]


def test_flip_turns_every_frame_once(video):
    """It works in place: on the same array twice, it does nothing."""
    decode = (dict(type='VideoInit'), dict(type='VideoDecode'))
    flip = dict(type='Flip', flip_ratio=1)
    indices = np.array([5, 5, 5, 7, 7])
    plain = run(build(*decode), 0, filename=video, frame_inds=indices)
    info = dict(filename=video, frame_inds=indices, modality='RGB')
    flipped = run(build(*decode, flip), 0, **info)
    for img, other in zip(flipped['imgs'], plain['imgs'], strict=True):
        assert np.array_equal(img, other[:, ::-1])


@pytest.mark.parametrize('decoder', DECODERS)
def test_bad_videos_are_refused(tmp_path, video, decoder):
    transform = VideoInit(decoder, min_frames=48)
    transform(dict(filename=video))['video_reader'].close()
    with pytest.raises(
        VideoError, match='^it has 48 frames, fewer than min_frames=49$'
    ):
        VideoInit(decoder, min_frames=49)(dict(filename=video))
    with pytest.raises(VideoError, match='no such file'):
        transform(dict(filename=str(tmp_path / 'no.mp4')))
    with pytest.raises(VideoError, match='more than 1e-09 s'):
        VideoInit(decoder, time_limit=1e-9)(dict(filename=video))
    with pytest.raises(ValueError, match="not 'ffmpeg'"):
        VideoInit('ffmpeg')(dict(filename=video))


def test_a_video_without_frame_rate(tmp_path, monkeypatch, video):
    reader = VideoInit()(dict(filename=video))['video_reader']
    reader.fps = 0.0
    monkeypatch.setattr(loading, 'open_video', lambda *args: reader)
    assert VideoInit()(dict(filename=video))['avg_fps'] == 30


def test_the_reader_is_closed_even_if_decoding_fails(monkeypatch, video):
    results = VideoInit()(dict(filename=video))
    reader = results['video_reader']
    closed = []
    monkeypatch.setattr(reader, 'close', lambda: closed.append(True))
    results['frame_inds'] = np.array([48])
    with pytest.raises(IndexError):
        VideoDecode()(results)
    assert closed == [True]


def test_what_they_print():
    assert repr(VideoInit('decord', 3, None)) == (
        "VideoInit(decoder='decord', min_frames=3, time_limit=None)"
    )
    assert repr(VideoDecode()) == 'VideoDecode()'
    assert repr(FormatClip((4, 6))) == 'FormatClip(size=(4, 6))'


# -------------------------------------------------------------- raw frames


def build_dataset(root, kind, transforms, text, **kwargs):
    ann_file = root / 'list.txt'
    ann_file.write_text(text)
    return DATASETS.build(
        dict(
            type=kind,
            ann_file=str(ann_file),
            data_prefix=dict(img=str(root)),
            pipeline=transforms,
            **kwargs,
        )
    )


@pytest.mark.parametrize('sample', SAMPLES[:4])
@pytest.mark.parametrize(
    ('text', 'kwargs'),
    [
        ('a 40 1\na 25 2\n', {}),
        ('a 0 40 1\na 12 25 2\n', dict(with_offset=True)),
        ('a 30 1\na 25 2\n', dict(start_index=5)),
        ('a 3 30 1\na 2 25 2\n', dict(with_offset=True, start_index=0)),
    ],
)
def test_raw_frames_as_with_raw_frame_decode(frames_dir, sample, text, kwargs):
    sample = dict(type='SampleFrames', **sample)
    stock = build_dataset(
        frames_dir,
        'RawframeDataset',
        [sample, dict(type='RawFrameDecode')],
        text,
        **kwargs,
    )
    ours = build_dataset(
        frames_dir,
        'RobustVideoDataset',
        [dict(type='VideoInit'), sample, dict(type='VideoDecode')],
        text,
        **kwargs,
    )
    for seed in range(4):
        for i in range(2):
            np.random.seed(seed)
            expected = stock[i]
            np.random.seed(seed)
            results = ours[i]
            assert ours.bad_videos.read() == {}
            # Ours counts from the first frame of the list, as for videos.
            shift = kwargs.get('start_index', 1)
            expected['frame_inds'] = expected['frame_inds'] - shift
            assert_same_results(
                results, expected, but=['avg_fps', 'start_index']
            )
            assert results['avg_fps'] == 30


def test_raw_frames_without_a_list(frames_dir):
    """All images there are, in the order of their numbers."""
    dataset = DATASETS.build(
        dict(
            type='RobustVideoDataset',
            data_prefix=dict(img=str(frames_dir)),
            pipeline=[
                dict(type='VideoInit'),
                dict(type='SampleFrames', clip_len=40, frame_interval=1),
                dict(type='VideoDecode'),
            ],
        )
    )
    assert len(dataset) == 2
    for i, folder in enumerate(['a', 'b c']):
        results = dataset[i]
        assert results['frame_dir'] == str(frames_dir / folder)
        for t in range(40):
            path = frames_dir / folder / f'img_{t + 1:05}.jpg'
            expected = cv2.imread(str(path))[..., ::-1]
            assert np.array_equal(results['imgs'][t], expected)


def test_too_few_raw_frames(frames_dir):
    transform = VideoInit(min_frames=41)
    with pytest.raises(VideoError, match='it has 40 frames, fewer than'):
        transform(dict(frame_dir=str(frames_dir / 'a')))
    with pytest.raises(VideoError, match='it has 20 frames, fewer than'):
        transform(dict(frame_dir=str(frames_dir / 'a'), total_frames=20))
    reader = VideoInit(min_frames=40)(dict(frame_dir=str(frames_dir / 'a')))[
        'video_reader'
    ]
    assert isinstance(reader, FrameFolderReader)


# -------------------------------------------------------------- FormatClip

CROPS = {
    'none': [],
    'center': [dict(type='CenterCrop', crop_size=40)],
    'random': [dict(type='RandomResizedCrop', area_range=(0.2, 0.9))],
    'three': [dict(type='ThreeCrop', crop_size=48)],
    'ten': [dict(type='TenCrop', crop_size=32)],
    'flip': [dict(type='Flip', flip_ratio=1)],
}


@pytest.mark.parametrize('crop', CROPS)
@pytest.mark.parametrize(('clip_len', 'num_clips'), [(4, 1), (3, 2), (1, 1)])
@pytest.mark.parametrize(
    'size', [(24, 24), (48, 64), (40, 40), (100, 37), (200, 200)]
)
def test_clips_as_with_resize_and_format_shape(
    crop, clip_len, num_clips, size
):
    height, width = size
    resize = dict(type='Resize', scale=(width, height), keep_ratio=False)
    shape = dict(type='FormatShape', input_format='NCTHW')
    stock = build(*CROPS[crop], resize, shape)
    ours = build(*CROPS[crop], dict(type='FormatClip', size=size))

    def info():
        rng = np.random.default_rng(0)
        shape = (clip_len * num_clips, 48, 64, 3)
        return dict(
            imgs=list(rng.integers(256, size=shape, dtype=np.uint8)),
            img_shape=(48, 64),
            modality='RGB',
            clip_len=clip_len,
            num_clips=num_clips,
        )

    expected = run(stock, 1, **info())
    results = run(ours, 1, **info())
    crops = {'three': 3, 'ten': 10}.get(crop, 1)
    clips = results['imgs']
    assert isinstance(clips, torch.Tensor)
    assert clips.dtype == torch.uint8
    assert clips.shape == (crops * num_clips, 3, clip_len, height, width)
    assert np.array_equal(clips.numpy(), expected['imgs'])
    assert results['input_shape'] == expected['input_shape']
    assert results['img_shape'] == expected['img_shape'] == size


def test_clips_end_up_in_the_packed_sample():
    results = dict(
        imgs=[picture(t, (64, 48)) for t in range(4)],
        clip_len=4,
        num_clips=1,
        label=2,
    )
    pipeline = build(
        dict(type='FormatClip', size=48), dict(type='PackActionInputs')
    )
    packed = pipeline(results)
    assert packed['inputs'].shape == (1, 3, 4, 48, 48)
    assert packed['inputs'].dtype == torch.uint8
    frame = cv2.resize(picture(2, (64, 48)), (48, 48))
    assert np.array_equal(packed['inputs'][0, :, 2].permute(1, 2, 0), frame)
    assert packed['data_samples'].gt_label.item() == 2


def test_wide_and_grey_frames():
    imgs = [np.full((10, 20, 1), t, np.uint8) for t in range(3)]
    results = FormatClip((5, 6))(dict(imgs=imgs, clip_len=3, num_clips=1))
    assert results['imgs'].shape == (1, 1, 3, 5, 6)
    for t in range(3):
        assert (results['imgs'][0, 0, t] == t).all()


@pytest.mark.parametrize(
    ('count', 'dtype', 'message'),
    [
        (7, np.uint8, 'for 2 clips of 3, not 7 of uint8'),
        (6, np.float32, 'takes uint8 frames .*not 6 of float32'),
    ],
)
def test_what_is_no_clip(count, dtype, message):
    imgs = [np.zeros((8, 8, 3), dtype)] * count
    with pytest.raises(ValueError, match=message):
        FormatClip(4)(dict(imgs=imgs, clip_len=3, num_clips=2))


def test_clips_do_not_share_memory_while_they_are_in_use():
    """The memory of clips is used again, but only once they are gone."""
    transform = TRANSFORMS.build(dict(type='FormatClip', size=8))

    def clip(value):
        imgs = [np.full((8, 8, 3), value, np.uint8) for _ in range(2)]
        results = dict(imgs=imgs, clip_len=2, num_clips=1)
        return transform(results)['imgs']

    first, second = clip(1), clip(2)
    address = first.data_ptr()
    view = first[:, :, :, 2:5]
    del first
    third = clip(3)  # `view` keeps the memory of the first
    assert view.unique().tolist() == [1]
    assert second.unique().tolist() == [2]
    assert third.unique().tolist() == [3]
    del view
    fourth = clip(4)
    assert fourth.data_ptr() == address
    assert fourth.unique().tolist() == [4]
    assert third.unique().tolist() == [3]


def test_memory_of_clips_that_is_too_small_is_not_used():
    transform = TRANSFORMS.build(dict(type='FormatClip', size=8))
    for count in (2, 4, 2, 6):
        imgs = [np.full((9, 7, 3), count, np.uint8) for _ in range(count)]
        clips = transform(dict(imgs=imgs, clip_len=2, num_clips=1))['imgs']
        assert clips.shape == (count // 2, 3, 2, 8, 8)
        assert clips.unique().tolist() == [count]
        del clips
