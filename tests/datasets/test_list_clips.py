# Copyright (c) MotionMAE contributors. All rights reserved.
"""Clips of long videos, beside files that hold no more than these."""

import shutil

import av
import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from mmmotionmae.apis.features.clips import make_pipeline, open_inputs
from mmmotionmae.apis.features.loading import load_batches
from mmmotionmae.apis.inferencer.inputs import list_inputs
from mmmotionmae.datasets import RobustVideoDataset
from mmmotionmae.datasets.readers import open_video
from mmmotionmae.datasets.transforms.loading import clip_range
from mmmotionmae.utils.errors import UsageError, VideoError
from mmmotionmae.utils.video_files import write_gif

FPS, TOTAL, FIRST, LAST = 25, 60, 13, 41


def write(path, frames):
    """Without losses, so that a part has the same pixels as the whole."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('ffv1', rate=FPS)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = 'yuv420p'
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A video, and one with the frames from 13 to 40 of it."""
    root = tmp_path_factory.mktemp('clips')
    small = np.random.default_rng(0).integers(0, 256, (TOTAL, 6, 8, 3), 'u1')
    frames = np.stack([cv2.resize(x, (48, 36)) for x in small])
    write(root / 'whole.mkv', frames)
    write(root / 'cut.mkv', frames[FIRST:LAST])
    for name, part in (('whole', frames), ('cut', frames[FIRST:LAST])):
        (root / name).mkdir()
        for i, frame in enumerate(part, 1):
            cv2.imwrite(str(root / name / f'img_{i:05}.png'), frame)
    (root / 'cut.txt').write_text('cut.mkv 3\n')
    return root


SAMPLERS = dict(
    pretrain=dict(type='SampleFrames', clip_len=8, frame_interval=2),
    repeated_last=dict(
        type='SampleFrames',
        clip_len=8,
        frame_interval=6,
        out_of_bound_opt='repeat_last',
    ),
    looped=dict(type='SampleFrames', clip_len=8, frame_interval=6),
    dense=dict(
        type='DenseSampleFrames', clip_len=4, frame_interval=2, num_clips=3
    ),
    uniform=dict(type='UniformSample', clip_len=8),
    test=dict(
        type='SampleFrames',
        clip_len=8,
        frame_interval=2,
        num_clips=5,
        test_mode=True,
    ),
    uniform_test=dict(
        type='UniformSample', clip_len=8, num_clips=2, test_mode=True
    ),
)


def sample(ann_file, prefix, steps, seed, **kwargs):
    dataset = RobustVideoDataset(
        steps, str(ann_file), prefix, test_mode=True, **kwargs
    )
    np.random.seed(seed)
    return dataset[0]


@pytest.mark.parametrize('name', SAMPLERS)
@pytest.mark.parametrize('unit', ['seconds', 'frames'])
def test_clips_are_those_of_a_video_that_was_cut(folder, tmp_path, name, unit):
    steps = [dict(type='VideoInit'), SAMPLERS[name], dict(type='VideoDecode')]
    times = f'{FIRST / FPS} {LAST / FPS}'
    kwargs = {}
    if unit == 'frames':
        times = f'{FIRST} {LAST}'
        kwargs = dict(columns=('start', 'end', 'label'))
    ann_file = tmp_path / 'list.txt'
    ann_file.write_text(f'whole.mkv {times} 3\n')
    prefix = dict(video=str(folder))
    for seed in range(3):
        ours = sample(ann_file, prefix, steps, seed, **kwargs)
        cut = sample(folder / 'cut.txt', prefix, steps, seed)
        assert np.array_equal(ours['frame_inds'], cut['frame_inds'] + FIRST)
        assert np.array_equal(ours['imgs'], cut['imgs'])
        assert ours['label'] == cut['label'] == 3
        assert ours['total_frames'] == cut['total_frames'] == LAST - FIRST


def test_whole_videos_in_memory(folder, tmp_path):
    steps = [
        dict(type='DecodeToMemory'),
        SAMPLERS['pretrain'],
        dict(type='ArrayDecode'),
    ]
    ann_file = tmp_path / 'list.txt'
    lines = [f'whole.mkv {FIRST / FPS} {LAST / FPS} 3\n', 'cut.mkv 0.0 -1 3\n']
    ann_file.write_text(''.join(lines))
    dataset = RobustVideoDataset(
        steps, str(ann_file), dict(video=str(folder)), test_mode=True
    )
    for _ in range(2):  # decoded, and remembered
        results = []
        for i in range(2):
            np.random.seed(4)
            results.append(dataset[i]['imgs'])
        assert np.array_equal(*results)


def test_raw_frames(folder, tmp_path):
    steps = [
        dict(type='VideoInit'),
        SAMPLERS['pretrain'],
        dict(type='VideoDecode'),
    ]
    ann_file = tmp_path / 'list.txt'
    results = []
    for name, start, end, total in (
        ('whole', FIRST, LAST, TOTAL),
        ('cut', 0, -1, LAST - FIRST),
    ):
        ann_file.write_text(f'{name} {start} {end} {total}\n')
        results.append(
            sample(
                ann_file,
                dict(img=str(folder)),
                steps,
                5,
                filename_tmpl='img_{:05}.png',
                columns=('start', 'end', 'total_frames'),
            )
        )
    assert np.array_equal(results[0]['imgs'], results[1]['imgs'])


def test_features(folder, tmp_path):
    """The pipeline of feature extraction, and the names of two clips."""
    ann_file = tmp_path / 'list.csv'
    ann_file.write_text(
        'path,start,end,label\n'
        f'whole.mkv,{FIRST / FPS},{LAST / FPS},3\nwhole.mkv,0.0,1.0,2\n'
    )
    settings = dict(img_size=24, num_frames=4, num_clips=2)
    with DefaultScope.overwrite_default_scope('mmaction'):
        dataset = open_inputs(ann_file, settings, data_prefix=folder)
        cut = open_inputs(folder / 'cut.mkv', settings)
        assert Compose(make_pipeline(**settings)).transforms
    assert np.array_equal(dataset[0]['clips'], cut[0]['clips'])
    assert dataset.short_names() == [
        'whole.mkv#t=0.52,1.64',
        'whole.mkv#t=0,1',
    ]
    assert dataset.path_of(0) == dataset.path_of(1)


@pytest.mark.parametrize('column', ['start_index', 'offset'])
def test_features_of_parts_of_a_folder(folder, tmp_path, column):
    """Each is a video of its own: its clip, its name, its digest."""
    starts, first = [3, 21, 40], int(column == 'start_index')
    rows = [f'whole,{start + first},20,0' for start in starts]
    parts, cut = tmp_path / 'parts.csv', tmp_path / 'cut.csv'
    head = f'path,{column},total_frames,label'
    parts.write_text('\n'.join([head, *rows]))
    cut.write_text(
        '\n'.join([head, *(f'{start},{first},20,0' for start in starts)])
    )
    for start in starts:
        (tmp_path / f'{start}').mkdir()
        for i in range(1, 21):
            name = f'whole/img_{start + i:05}.png'
            shutil.copy(folder / name, tmp_path / f'{start}/img_{i:05}.png')

    def read(ann_file, prefix, names='img_{:05}.png'):
        settings = dict(img_size=24, num_frames=4, frame_interval=2)
        with DefaultScope.overwrite_default_scope('mmaction'):
            return open_inputs(
                ann_file, settings, prefix, frames=True, filename_tmpl=names
            )

    dataset = read(parts, folder)
    assert dataset.short_names() == [
        f'whole#frames={start},{start + 20}' for start in starts
    ]
    batches = [
        next(load_batches(videos, 0, batch_size=3, num_workers=0))
        for videos in (dataset, read(cut, tmp_path))
    ]
    for part, alone in zip(*batches, strict=True):
        assert np.array_equal(part['clips'], alone['clips'])
    digests = {dataset.digest(), read(parts, folder, 'img_{:5}.png').digest()}
    parts.write_text(parts.read_text().replace(',20,', ',19,'))
    assert len({read(parts, folder).digest(), *digests}) == 3


@pytest.mark.parametrize(
    ('start', 'end', 'unit', 'fps', 'expected'),
    [
        (0, 1, 'seconds', 25, (0, 25)),
        (0.28, 0.32, 'seconds', 25, (7, 8)),  # 7.000000000000001 in floats
        (0.27, 0.29, 'seconds', 25, (7, 8)),
        (7 / 30000 * 1001, 8 / 30000 * 1001, 'seconds', 30 / 1.001, (7, 8)),
        (1.999, 99, 'seconds', 25, (50, 60)),
        (2.0, -1, 'seconds', 25, (50, 60)),
        (3, 9, 'frames', 0, (3, 9)),
        (3, 900, 'frames', 25, (3, 60)),
    ],
)
def test_frames_of_a_time(start, end, unit, fps, expected):
    info = dict(clip_start=start, clip_end=end, clip_unit=unit)
    assert clip_range(info, 60, fps) == expected


@pytest.mark.parametrize(
    ('start', 'end', 'unit', 'fps', 'words'),
    [
        (3.0, 4.0, 'seconds', 25, 'no frame is in its clip, from 3 to 4 sec'),
        (60, -1, 'frames', 25, 'from 60 to -1 frames; the video has 60'),
        (0.021, 0.025, 'seconds', 25, 'no frame is in its clip'),
        (1.0, 2.0, 'seconds', 0, 'its frames have no times'),
    ],
)
def test_clips_that_are_not_in_the_video(start, end, unit, fps, words):
    info = dict(clip_start=start, clip_end=end, clip_unit=unit)
    with pytest.raises(VideoError, match=words):
        clip_range(info, 60, fps)


def test_a_clip_beyond_the_end_is_a_bad_one(folder, tmp_path):
    ann_file = tmp_path / 'list.txt'
    ann_file.write_text('whole.mkv 0.0 1.0\nwhole.mkv 9.0 10.0\n')
    steps = [dict(type='VideoInit', min_frames=5), SAMPLERS['uniform']]
    dataset = RobustVideoDataset(steps, str(ann_file), dict(video=str(folder)))
    assert dataset[1]['total_frames'] == 25  # the other one
    path = folder / 'whole.mkv'
    assert list(dataset.bad_videos.read()) == [f'{path}#t=9,10']
    with open_video(str(path)) as reader:
        assert reader.num_frames == TOTAL


def test_a_video_of_any_name_is_no_list(folder, tmp_path):
    """GIF, or without an extension; as for reconstructions."""
    frames = np.random.default_rng(1).integers(0, 256, (4, 24, 32, 3), 'u1')
    write_gif(tmp_path / 'x.gif', frames, 5)
    shutil.copy(folder / 'cut.mkv', tmp_path / 'film')
    settings = dict(img_size=24, num_frames=4)
    for path in (tmp_path / 'x.gif', tmp_path / 'film'):
        with DefaultScope.overwrite_default_scope('mmaction'):
            dataset = open_inputs(path, settings)
        assert len(dataset) == 1 and dataset[0]['reason'] == ''
        assert [video.source for video in list_inputs(path)] == [str(path)]
    with pytest.raises(UsageError, match='is a list. Name the videos'):
        list_inputs(folder / 'cut.txt')
