# Copyright (c) MotionMAE contributors. All rights reserved.
"""Videos from URLs and tar shards are those of plain files."""

import os
import shutil
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from helpers.stores import FaultyServer, pack
from helpers.video_files import DECODERS, encode, picture
from mmaction.registry import DATASETS

from mmmotionmae.apis import UsageError, extract_features
from mmmotionmae.apis.inferencer.inputs import list_inputs
from mmmotionmae.datasets.readers import FrameFolderReader, open_video
from mmmotionmae.datasets.sequences import DAVISDataset
from mmmotionmae.datasets.transforms.loading import DecodeToMemory
from mmmotionmae.utils.errors import (
    PipelineError,
    SequenceError,
    StorageError,
    TooManyBadVideosError,
    VideoError,
)
from mmmotionmae.utils.seeding import SampleIndex
from mmmotionmae.utils.stores import files

PATIENT = dict(retry_delays=(0,) * 50, request_timeout=1.0)
PIPELINE = [
    dict(type='SeedSample'),
    dict(type='VideoInit'),
    dict(type='SampleFrames', clip_len=4, frame_interval=2),
    dict(type='VideoDecode'),
    dict(type='FormatClip', size=32),
    dict(type='PackActionInputs'),
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Six videos, of which one is broken, and a shard with all."""
    root = tmp_path_factory.mktemp('stored')
    names = ['a.mp4', 'b.mkv', 'c.avi', 'd.mp4', 'broken.mp4', 'e.mpg']
    for name in names:
        codec = dict(avi='mpeg4', mpg='mpeg2video').get(name[-3:], 'libx264')
        encode(root / name, codec, num_frames=30, size=(64, 48), rate=25)
    data = (root / 'broken.mp4').read_bytes()
    (root / 'broken.mp4').write_bytes(data[: len(data) // 2])
    places = pack(root / 's.tar', {f'x/{n}': root / n for n in names})
    (root / 'list.txt').write_text(
        ''.join(f'{name} {i}\n' for i, name in enumerate(names))
    )
    (root / 'shards.txt').write_text(
        ''.join(f'{place} {i}\n' for i, place in enumerate(places))
    )
    (root / 'frames').mkdir()
    for t in range(6):
        image = picture(t, (64, 48))[..., ::-1]
        cv2.imwrite(str(root / f'frames/img_{t + 1:05}.jpg'), image)
    (root / 'frames.txt').write_text('frames 6 3\n')
    return root


@pytest.fixture
def server(folder):
    server = FaultyServer(folder)
    with server.running():
        yield server


def names_in(path):
    return [line.split()[0] for line in path.read_text().splitlines()]


def read(path, decoder='pyav', **kwargs):
    with open_video(path, decoder, **kwargs) as video:
        return list(video.frames(range(0, video.num_frames, 3))), video


# --------------------------------------------------------------- readers


@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('where', ['disk', 'server'])
@pytest.mark.parametrize('how', ['whole', 'blocks'])
def test_frames_are_those_of_plain_files(
    folder, server, decoder, where, how, monkeypatch
):
    if how == 'blocks':
        monkeypatch.setattr(files, 'WHOLE', 1000)
        small = partial(files.BlockFile, block=700, num_blocks=3)
        monkeypatch.setattr(files, 'BlockFile', small)
    prefix = server.url if where == 'server' else str(folder)
    names = names_in(folder / 'list.txt')
    for name, place in zip(
        names, names_in(folder / 'shards.txt'), strict=True
    ):
        if name == 'broken.mp4':
            continue
        try:
            expected, _ = read(str(folder / name), decoder)
        except VideoError as error:  # that decoder does not do
            with pytest.raises(VideoError) as caught:
                read(f'{prefix}/{place}', decoder)
            assert str(caught.value).startswith(str(error))
            continue
        stored = [place, name] if where == 'server' else [place]
        for path in stored:
            frames, video = read(f'{prefix}/{path}', decoder)
            assert np.array_equal(frames, expected), (name, path)
            assert video.file.closed


@pytest.mark.parametrize('decoder', DECODERS)
def test_nothing_is_left_open(folder, decoder):
    place = f'{folder}/{names_in(folder / "shards.txt")[0]}'
    read(place, decoder)
    before = sorted(os.listdir('/proc/self/fd'))
    for _ in range(3):
        read(place, decoder)
        with pytest.raises(VideoError):
            open_video(place.replace('@', '@1'), decoder)
    assert sorted(os.listdir('/proc/self/fd')) == before


def test_errors_name_the_member(folder):
    name, place = (
        names_in(folder / f'{x}.txt')[4] for x in ('list', 'shards')
    )
    with pytest.raises(VideoError) as plain:
        read(str(folder / name))
    with pytest.raises(VideoError) as caught:
        read(f'{folder}/{place}')
    assert str(caught.value) == f"{plain.value} ('x/broken.mp4' in the shard)"


def test_a_frame_that_is_lost_names_the_member(folder, monkeypatch):
    place = f'{folder}/{names_in(folder / "shards.txt")[0]}'
    with open_video(place) as video:
        monkeypatch.setattr(
            video,
            '_frames',
            lambda wanted: (_ for _ in ()).throw(video.lost(3)),
        )
        with pytest.raises(VideoError, match=r"frame 3 .*\('x/a.mp4' in the"):
            list(video.frames([3]))


def test_too_large_for_a_copy(folder, monkeypatch):
    monkeypatch.setattr('mmmotionmae.datasets.readers._MAX_COPY', 1000)
    place = f'{folder}/{names_in(folder / "shards.txt")[0]}'
    with pytest.raises(VideoError, match='pyav reads it in pieces'):
        open_video(place, 'decord')
    assert len(read(place)[0]) == 10


def test_a_storage_that_fails_while_frames_are_read(
    folder, server, monkeypatch
):
    """It is no broken video, though the decoder meets it."""
    monkeypatch.setattr(files, 'WHOLE', 1000)
    small = partial(files.BlockFile, block=700, num_blocks=1)
    monkeypatch.setattr(files, 'BlockFile', small)
    args = dict(PATIENT, retry_delays=())
    with open_video(f'{server.url}/a.mp4', backend_args=args) as video:
        server.shares = dict(error=1.1)
        with pytest.raises(StorageError, match='503'):
            list(video.frames([0, 29]))


def test_frames_of_a_store(folder, server):
    plain = FrameFolderReader(str(folder / 'frames'))
    stored = FrameFolderReader(
        f'{server.url}/frames', None, 'img_{:05}.jpg', 1, 6
    )
    expected = list(plain.frames(range(6)))
    assert np.array_equal(list(stored.frames(range(6))), expected)
    gone = FrameFolderReader(
        f'{server.url}/frames', None, 'img_{:05}.jpg', 1, 7
    )
    with pytest.raises(VideoError, match="'img_00007.jpg': there is no such"):
        list(gone.frames([6]))
    with pytest.raises(UsageError, match='need a list with their number'):
        FrameFolderReader(f'{server.url}/frames')


# -------------------------------------------------------------- data sets


def build(folder, ann_file, prefix, pipeline=PIPELINE, **kwargs):
    return DATASETS.build(
        dict(
            type='RobustVideoDataset',
            pipeline=pipeline,
            ann_file=str(folder / ann_file),
            data_prefix=prefix
            if isinstance(prefix, dict)
            else dict(video=prefix),
        )
        | kwargs
    )


def samples_of(dataset):
    return [dataset[SampleIndex(i, seed=i)] for i in range(len(dataset))]


FAULTS = dict(error=0.05, stall=0.02, cut=0.02, short=0.02)


@pytest.mark.parametrize('ann_file', ['list.txt', 'shards.txt'])
def test_samples_are_those_of_plain_files_whatever_fails(folder, ann_file):
    plain = build(folder, 'list.txt', str(folder))
    expected = samples_of(plain) + samples_of(plain)
    server = FaultyServer(folder, {k: 4 * v for k, v in FAULTS.items()})
    with server.running() as url:
        stored = build(folder, ann_file, url, backend_args=PATIENT)
        samples = samples_of(stored) + samples_of(stored)
    for sample, other in zip(samples, expected, strict=True):
        assert torch.equal(sample['inputs'], other['inputs'])
    (bad,) = stored.bad_videos.read().items()
    ((name, reason),) = plain.bad_videos.read().items()
    assert name.endswith('broken.mp4') and bad[1].startswith(reason)
    assert bad[0] == f'{url}/{names_in(folder / ann_file)[4]}'
    if ann_file == 'shards.txt':
        assert bad[1].endswith("('x/broken.mp4' in the shard)")
    assert server.counts.total() - server.counts[None] >= 3


def test_urls_in_a_list_stand_for_themselves(folder, server, tmp_path):
    (tmp_path / 'list.txt').write_text(f'{server.url}/a.mp4 3\nb.mkv 4\n')
    dataset = build(tmp_path, 'list.txt', str(folder))
    assert [dataset.name_of(i) for i in range(2)] == [
        f'{server.url}/a.mp4',
        f'{folder}/b.mkv',
    ]
    assert len(samples_of(dataset)) == 2
    assert not dataset.bad_videos.read()


def test_a_store_that_is_down_is_waited_for(folder):
    """First by the store, then by the data set; then it is said."""
    server, waits = FaultyServer(folder, dict(error=1.1)), []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            server.shares = {}

    with server.running() as url:
        dataset = build(
            folder,
            'shards.txt',
            url,
            backend_args=dict(PATIENT, retry_delays=()),
            storage_delays=(1, 5, 25),
            sleep=sleep,
        )
        dataset[SampleIndex(0, seed=0)]
        assert waits == [1, 5] and not dataset.bad_videos.read()
        server.shares, waits[:] = dict(error=1.1), [0, 0]
        with pytest.raises(TooManyBadVideosError, match='storage: .*503'):
            samples_of(dataset)


def test_mistakes_end_the_run_at_once(folder):
    with pytest.raises(UsageError, match="no backend 'no such'"):
        build(folder, 'list.txt', '', backend_args=dict(backend='no such'))
    with pytest.raises(UsageError, match='give an ann_file'):
        DATASETS.build(
            dict(
                type='RobustVideoDataset',
                pipeline=PIPELINE,
                data_prefix=dict(video='s3://bucket'),
            )
        )
    dataset = build(folder, 'list.txt', 'nosuch://a')
    with pytest.raises(PipelineError, match='Protocol not known: nosuch'):
        samples_of(dataset)
    assert not dataset.bad_videos.read()


def test_raw_frames_of_a_store(folder, server):
    samples = [
        samples_of(build(folder, 'frames.txt', dict(img=prefix)))[0]
        for prefix in (str(folder), server.url)
    ]
    first, second = (sample['inputs'] for sample in samples)
    assert torch.equal(first, second) and first.any()


def test_frames_in_memory_are_forgotten_when_a_shard_changes(folder, tmp_path):
    shutil.copy(folder / 's.tar', tmp_path / 's.tar')
    place = f'{tmp_path}/{names_in(folder / "shards.txt")[0]}'

    def load():
        transform = DecodeToMemory(cache_dir=str(tmp_path / 'cache'))
        return transform.transform(dict(filename=place))['array']

    expected = load()
    assert np.array_equal(load(), expected)
    assert len(list((tmp_path / 'cache').iterdir())) == 1
    os.utime(tmp_path / 's.tar', ns=(1, 1))
    assert np.array_equal(load(), expected)
    assert len(list((tmp_path / 'cache').iterdir())) == 2


def test_sequences_are_of_this_machine():
    with pytest.raises(SequenceError, match="not 's3://bucket/DAVIS': copy"):
        DAVISDataset([], 's3://bucket/DAVIS')


# ------------------------------------------------------- what users call


def test_features_of_stored_videos(folder, server, tiny_model, tmp_path):
    model = tiny_model().backbone
    place = names_in(folder / 'shards.txt')[0]
    plain = extract_features(model, str(folder / 'a.mp4')).values
    for name in (f'{server.url}/a.mp4', f'{folder}/{place}'):
        found = extract_features(model, name).values
        assert np.array_equal(found, plain)


def test_inputs_of_an_inferencer(folder, server):
    place = names_in(folder / 'shards.txt')[1]
    videos = list_inputs([f'{server.url}/a.mp4', f'{folder}/{place}'])
    assert [video.kind for video in videos] == ['file', 'file']
    offset = place.split('@')[1]
    assert [video.name for video in videos] == ['a', f's-{offset}']
