# Copyright (c) MotionMAE contributors. All rights reserved.
"""Videos, storage and pipelines that fail, and who is held responsible."""

import errno
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.fake_clock import FakeClock
from mmcv.transforms import BaseTransform
from mmengine.logging import MMLogger

from mmmotionmae.datasets import RobustVideoDataset
from mmmotionmae.datasets.readers import FrameFolderReader
from mmmotionmae.datasets.readers.base import Deadline
from mmmotionmae.utils.errors import (
    PipelineError,
    StorageError,
    StorageTimeoutError,
    TooManyBadVideosError,
    UsageError,
    VideoError,
    VideoTimeoutError,
)
from mmmotionmae.utils.seeding import SampleIndex

# A regular file for all that asks, but reading it is an I/O error.
UNREADABLE = '/proc/self/mem'
LOAD = [
    dict(type='SeedSample'),
    dict(type='VideoInit'),
    dict(type='SampleFrames', clip_len=4, frame_interval=1),
    dict(type='VideoDecode'),
]


class Fault(BaseTransform):
    """Raises errors on some videos, the first few times."""

    def __init__(self, error, videos='', times=10**9):
        self.error, self.videos, self.left = error, videos, times

    def transform(self, results):
        name = Path(results['filename']).name
        if self.left and (not self.videos or name in self.videos):
            self.left -= 1
            if self.error is None:
                return None
            raise self.error
        return results


@pytest.fixture
def folder(tmp_path, shapes_dir):
    for i in range(6):
        source = shapes_dir / f'videos/pretrain/{i:05d}.mp4'
        shutil.copy(source, tmp_path / f'{i}.mp4')
    return tmp_path


@pytest.fixture
def build(folder):
    """A data set, and the clock that it sleeps by."""

    def build(*faults, before=False, **kwargs):
        clock = FakeClock()
        pipeline = [*faults, *LOAD] if before else [*LOAD, *faults]
        dataset = RobustVideoDataset(
            pipeline,
            data_prefix=dict(video=str(folder)),
            sleep=clock.advance,
            **kwargs,
        )
        return dataset, clock

    return build


def names(dataset):
    return {Path(p).name: why for p, why in dataset.bad_videos.read().items()}


# --------------------------------------------------------------- storage


def test_an_unreadable_file_is_no_bad_video(folder, build):
    (folder / '2.mp4').unlink()
    (folder / '2.mp4').symlink_to(UNREADABLE)
    dataset, clock = build()
    sample = dataset[SampleIndex(2, 7)]
    assert Path(sample['filename']).name != '2.mp4'
    assert clock.seconds == 1 + 5 + 25
    assert names(dataset) == {'2.mp4': 'storage: input/output error'}


@pytest.mark.parametrize(
    'number', ['EIO', 'ESTALE', 'ETIMEDOUT', 'ECONNRESET', 'ENOTCONN']
)
def test_storage_that_recovers_costs_nothing_but_time(number, build):
    error = OSError(getattr(errno, number), os.strerror(1))
    plain, _ = build()
    dataset, clock = build(Fault(error, times=2))
    for seed in (3, 4):
        index = SampleIndex(1, seed)
        sample, expected = dataset[index], plain[index]
        assert sample['filename'] == expected['filename']
        assert np.array_equal(sample['frame_inds'], expected['frame_inds'])
        assert clock.seconds == 1 + 5
    assert names(dataset) == {}


def test_each_delay_is_one_more_try(build):
    error = OSError(errno.EIO, 'Input/output error')
    fault = Fault(error, '3.mp4')
    dataset, clock = build(fault, storage_delays=(2, 4))
    before = fault.left
    dataset[SampleIndex(3, 0)]
    assert before - fault.left == 3 and clock.seconds == 6
    assert names(dataset) == {'3.mp4': 'storage: input/output error'}


def test_what_ffmpeg_calls_an_io_error_may_be_the_video(build):
    """It says so of broken files, too; if the file can be read, it is."""
    broken = VideoError('input/output error')
    broken.__cause__ = av.error.OSError(errno.EIO, 'Input/output error')
    dataset, clock = build(Fault(broken, '3.mp4', times=1))
    sample = dataset[SampleIndex(3, 0)]
    assert Path(sample['filename']).name == '3.mp4' and names(dataset) == {}
    dataset, clock = build(Fault(broken, '3.mp4'))
    dataset[SampleIndex(3, 0)]
    assert clock.seconds == 1
    assert names(dataset) == {'3.mp4': 'input/output error'}


def test_a_frame_that_cannot_be_read(tmp_path):
    (tmp_path / 'img_00001.jpg').symlink_to(UNREADABLE)
    reader = FrameFolderReader(str(tmp_path))
    with pytest.raises(StorageError, match="img_00001.jpg': Input/output"):
        list(reader.frames([0]))


def test_a_stale_handle_is_not_a_missing_file(folder, build, monkeypatch):
    stat = os.stat

    def stale(path, *args, **kwargs):
        if str(path).endswith('4.mp4'):
            raise OSError(errno.ESTALE, 'Stale file handle')
        return stat(path, *args, **kwargs)

    dataset, clock = build()
    monkeypatch.setattr(os, 'stat', stale)
    dataset[SampleIndex(4, 0)]
    assert clock.seconds == 31
    assert names(dataset) == {'4.mp4': 'storage: stale file handle'}


def test_a_time_out_is_the_videos_only_if_it_was_worked_on():
    clock, work = FakeClock(), FakeClock()
    deadline = Deadline(10, clock, work)
    clock.advance(11)
    work.advance(2)
    with pytest.raises(StorageTimeoutError, match='more than 10 s, most of'):
        deadline.check()
    work.advance(8)
    with pytest.raises(VideoTimeoutError, match='more than 10 s$') as caught:
        deadline.check()
    assert not isinstance(caught.value, StorageError)


def test_waiting_in_vain_again_and_again_is_given_up(build):
    late = StorageTimeoutError('reading it takes more than 60 s, waiting')
    fault = Fault(late, '5.mp4')
    dataset, clock = build(fault)
    before = fault.left
    for _ in range(3):
        dataset[SampleIndex(5, 1)]
    assert before - fault.left == 4 and clock.seconds == 31
    assert names(dataset)['5.mp4'].startswith('storage: reading it takes')


# -------------------------------------------------------------- pipeline


@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (KeyError('clip_len'), r"Fault fails.*KeyError: 'clip_len'.*line \d+"),
        (ValueError('no grid'), 'ValueError: no grid'),
        (AssertionError(), 'AssertionError'),
        (None, 'ValueError: it returned None'),
        (UsageError('mask_ratio is 2.'), r"0.mp4'\): mask_ratio is 2\.$"),
        (OSError(errno.EMFILE, 'Too many open files'), 'Too many open files'),
        (FileNotFoundError(2, 'No file', 'masks.npy'), 'masks.npy'),
    ],
)
@pytest.mark.parametrize('leave_out', [None, False, True])
def test_what_all_videos_meet_is_the_pipeline(
    error, message, leave_out, build
):
    test = leave_out is not None
    dataset, clock = build(
        Fault(error), test_mode=test, leave_out=bool(leave_out)
    )
    with pytest.raises(PipelineError, match=message):
        dataset[SampleIndex(0, 1)]
    assert names(dataset) == {} and clock.seconds == 0


@pytest.mark.parametrize(
    'error', [ImportError('no decord'), NotImplementedError('x')]
)
def test_what_is_never_a_videos_fault_ends_the_run_late(error, build):
    dataset, _ = build(Fault(error, '3.mp4'))
    for i in range(3):
        dataset[SampleIndex(i, 1)]
    with pytest.raises(PipelineError, match='Fault fails'):
        dataset[SampleIndex(3, 1)]
    assert names(dataset) == {}


@pytest.mark.parametrize('first', [True, False])
def test_one_odd_video_ends_no_run(first, build):
    """Whether it comes before the pipeline is known to work, or later."""
    dataset, _ = build(Fault(AssertionError('too small'), '3.mp4'))
    if not first:
        dataset[SampleIndex(0, 1)]
    sample = dataset[SampleIndex(3, 1)]
    assert Path(sample['filename']).name != '3.mp4'
    reason = 'pipeline: Fault: AssertionError: too small'
    assert names(dataset) == {'3.mp4': reason}


def test_trying_others_leaves_the_draws_alone(build):
    plain, _ = build(Fault(AssertionError('x'), '3.mp4'))
    plain[SampleIndex(0, 1)]  # the pipeline works
    dataset, _ = build(Fault(AssertionError('x'), '3.mp4'))
    one, other = (d[SampleIndex(3, 9)] for d in (dataset, plain))
    assert one['filename'] == other['filename']
    assert np.array_equal(one['frame_inds'], other['frame_inds'])


def test_broken_videos_are_no_broken_pipeline(folder, build):
    for path in folder.glob('*.mp4'):
        path.write_bytes(b'no video')
    dataset, _ = build()
    with pytest.raises(TooManyBadVideosError, match='max_bad_share'):
        for i in range(6):
            dataset[SampleIndex(i, 1)]


def test_a_wrong_decoder_is_found_at_once(folder):
    for kind in ('VideoInit', 'DecodeToMemory'):
        with pytest.raises(UsageError, match='pyav, decord, opencv, not'):
            RobustVideoDataset(
                [dict(type=kind, decoder='ffmpeg')],
                data_prefix=dict(video=str(folder)),
            )


def test_a_warning_says_that_it_will_be_tried_again(build, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    error = OSError(errno.ESTALE, 'Stale file handle')
    dataset, _ = build(Fault(error, times=1))
    dataset[SampleIndex(1, 1)]
    logger.removeHandler(caplog.handler)
    messages = {record.getMessage() for record in caplog.records}
    (message,) = [m for m in messages if 'cannot be read now' in m]
    assert "1.mp4' cannot be read now, again in 1 s: " in message
    assert message.endswith('storage: stale file handle')


def test_a_hopeless_video_in_a_second_test(build):
    """It is left out again, not replaced by one that counts twice."""
    dataset, _ = build(
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
        test_mode=True,
        leave_out=True,
    )
    load = dataset.prepare_data

    def late(idx):
        if idx == 2:
            raise VideoTimeoutError('reading it takes more than 60 s')
        return load(idx)

    dataset.prepare_data = late
    for _ in range(2):
        samples = [dataset[SampleIndex(i, i)] for i in range(6)]
        flags = [bool(s['data_samples'].get('left_out')) for s in samples]
        assert flags == [False, False, True, False, False, False]
