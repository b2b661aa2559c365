# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import shutil

import cv2
import decord
import numpy as np
import pytest
from helpers.video_files import encode
from mmaction.registry import TRANSFORMS
from mmcv.transforms import Compose

from mmmotionmae.utils.errors import VideoError

BYTES = 12 * 32 * 32 * 3  # of one generated video


@pytest.fixture
def videos(tmp_path, shapes_dir):
    """Paths of three videos, which a test may delete."""
    source = shapes_dir / 'videos' / 'pretrain'
    return [
        shutil.copy(source / f'{i:05d}.mp4', tmp_path / f'{i}.mp4')
        for i in range(3)
    ]


def build(**kwargs):
    return TRANSFORMS.build(dict(type='DecodeToMemory', **kwargs))


def frames_of(path):
    reader = decord.VideoReader(str(path), num_threads=1)
    return np.stack([reader[i].asnumpy() for i in range(len(reader))])


def load(transform, path):
    return transform(dict(filename=str(path)))


def test_frames_are_those_of_decord(videos):
    transform = build()
    arrays = []
    for path in videos:
        results = load(transform, path)
        expected = frames_of(path)
        assert results['array'].dtype == np.uint8
        assert np.array_equal(results['array'], expected)
        assert results['total_frames'] == len(expected) == 12
        assert results['avg_fps'] == pytest.approx(12)
        arrays.append(results['array'])
    assert not np.array_equal(arrays[0], arrays[1])


def test_the_second_time_the_file_is_not_opened(videos):
    transform = build()
    first = [load(transform, path) for path in videos]
    for path in videos:
        os.remove(path)
    for path, results in zip(videos, first, strict=True):
        again = load(transform, path)
        assert np.array_equal(again['array'], results['array'])
        assert again['total_frames'] == results['total_frames']
        assert again['avg_fps'] == results['avg_fps']
    with pytest.raises(RuntimeError):
        load(build(), videos[0])


def test_what_is_done_to_the_frames_does_not_reach_the_memory(videos):
    transform = build()
    expected = frames_of(videos[0])
    for _ in range(3):
        results = load(transform, videos[0])
        assert np.array_equal(results['array'], expected)
        results['array'][:] = 0


@pytest.mark.parametrize(
    ('max_bytes', 'kept'),
    [
        (0, 0),
        (BYTES - 1, 0),
        (BYTES, 1),
        (2 * BYTES + 1, 2),
        (3 * BYTES - 1, 2),
        (3 * BYTES, 3),
    ],
)
def test_the_memory_is_no_larger_than_allowed(videos, max_bytes, kept):
    transform = build(max_bytes=max_bytes)
    for _ in range(2):  # the second time takes no further memory
        for path in videos:
            results = load(transform, path)
            assert np.array_equal(results['array'], frames_of(path))
    for path in videos:
        os.remove(path)
    for path in videos[:kept]:
        assert load(transform, path)['array'].nbytes == BYTES
    for path in videos[kept:]:
        with pytest.raises(RuntimeError):
            load(transform, path)


def test_stands_in_for_decord_in_a_pipeline(videos):
    """Same random draws, same clip, and `Flip` leaves the memory alone."""
    sample = dict(type='SampleFrames', clip_len=5, frame_interval=2)
    flip = dict(type='Flip', flip_ratio=1)
    stock = Compose(
        [
            TRANSFORMS.build(cfg)
            for cfg in (
                dict(type='DecordInit'),
                sample,
                dict(type='DecordDecode'),
                flip,
            )
        ]
    )
    ours = Compose(
        [
            TRANSFORMS.build(cfg)
            for cfg in (
                dict(type='DecodeToMemory'),
                sample,
                dict(type='ArrayDecode'),
                flip,
            )
        ]
    )
    starts = set()
    for seed in range(6):
        clips = []
        for pipeline in (stock, ours):
            np.random.seed(seed)
            results = pipeline(
                dict(filename=str(videos[0]), start_index=0, modality='RGB')
            )
            clips.append(np.stack(results['imgs']))
        starts.add(int(results['frame_inds'][0]))
        assert np.array_equal(*clips)
    assert len(starts) > 1


@pytest.mark.parametrize(
    ('short_side', 'rule'),
    [(8, cv2.INTER_AREA), (48, cv2.INTER_LINEAR), (32, None)],
)
def test_frames_of_another_size(videos, short_side, rule):
    results = load(build(short_side=short_side), videos[0])
    expected = frames_of(videos[0])
    if rule is not None:
        size = (short_side, short_side)
        expected = np.stack(
            [cv2.resize(f, size, interpolation=rule) for f in expected]
        )
    np.testing.assert_array_equal(results['array'], expected)
    if short_side == 8:  # means of 4x4 pixels
        means = frames_of(videos[0]).reshape(12, 8, 4, 8, 4, 3).mean((2, 4))
        assert abs(results['array'] - means).max() <= 0.5


def test_the_short_side_of_a_wide_video(tmp_path):
    path = tmp_path / 'wide.mp4'
    encode(path)  # 128x96
    assert load(build(short_side=24), path)['array'].shape[1:] == (24, 32, 3)


def test_frames_on_disk(videos, tmp_path, monkeypatch):
    """Another process reads them, and those of a changed video are new."""
    cache_dir = tmp_path / 'cache'
    options = dict(cache_dir=str(cache_dir), short_side=16)
    first = load(build(**options), videos[0])
    with monkeypatch.context() as patch:
        patch.setattr(
            'mmmotionmae.datasets.transforms.loading.open_video', None
        )
        again = load(build(**options), videos[0])
    np.testing.assert_array_equal(again['array'], first['array'])
    assert again['avg_fps'] == first['avg_fps']
    assert len(list(cache_dir.iterdir())) == 1

    shutil.copy(videos[1], videos[0])
    changed = load(build(**options), videos[0])
    expected = load(build(short_side=16), videos[1])
    np.testing.assert_array_equal(changed['array'], expected['array'])
    other = load(build(cache_dir=str(cache_dir)), videos[1])
    assert other['array'].shape == (12, 32, 32, 3)
    os.remove(videos[1])
    with pytest.raises(VideoError, match='no such file'):
        load(build(**options), videos[1])


def test_damaged_frames_on_disk(videos, tmp_path):
    options = dict(cache_dir=str(tmp_path / 'cache'))
    first = load(build(**options), videos[0])
    (path,) = (tmp_path / 'cache').iterdir()
    whole = path.read_bytes()
    for damaged in (b'', whole[: len(whole) // 2], b'no archive'):
        path.write_bytes(damaged)
        again = load(build(**options), videos[0])
        np.testing.assert_array_equal(again['array'], first['array'])
        assert path.stat().st_size == len(whole)
