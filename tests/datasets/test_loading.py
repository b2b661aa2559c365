# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import shutil

import decord
import numpy as np
import pytest
from mmaction.registry import TRANSFORMS
from mmcv.transforms import Compose

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
