# Copyright (c) MotionMAE contributors. All rights reserved.
"""Videos in S3, as a server on this machine speaks it."""

import numpy as np
import pytest
from helpers.stores import pack
from helpers.video_files import encode
from mmaction.registry import DATASETS

from mmmotionmae.datasets.readers import open_video
from mmmotionmae.utils.errors import UsageError, VideoError
from mmmotionmae.utils.seeding import SampleIndex

REASON = "pip install 'mmmotionmae[tests-s3]' to test S3 itself"
boto3 = pytest.importorskip('boto3', reason=REASON)
pytest.importorskip('s3fs', reason=REASON)
server = pytest.importorskip('moto.server', reason=REASON)

KEYS = dict(key='testing', secret='testing')  # noqa: S106


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('s3')
    names = ['a.mp4', 'b c.mp4', 'd.mkv']
    for name in names:
        encode(root / name, num_frames=20, size=(64, 48))
    places = pack(root / 's.tar', {name: root / name for name in names})
    (root / 'list.txt').write_text(
        ''.join(f'{place} {i}\n' for i, place in enumerate(places))
    )
    return root


@pytest.fixture(scope='module')
def endpoint(folder):
    """The address of the server; its bucket has the folder."""
    running = server.ThreadedMotoServer(ip_address='127.0.0.1', port=0)
    running.start()
    host, port = running.get_host_and_port()
    url = f'http://{host}:{port}'
    client = boto3.client(
        's3',
        endpoint_url=url,
        region_name='us-east-1',
        aws_access_key_id='testing',
        aws_secret_access_key='testing',
    )
    client.create_bucket(Bucket='bucket')
    for path in folder.iterdir():
        client.upload_file(str(path), 'bucket', f'videos/{path.name}')
    yield url
    running.stop()


@pytest.fixture
def args(endpoint):
    return dict(
        backend='fsspec',
        endpoint_url=endpoint,
        retry_delays=(0,) * 5,
        **KEYS,
    )


def frames_of(path, **kwargs):
    with open_video(str(path), **kwargs) as video:
        return list(video.frames(range(video.num_frames)))


def test_objects_and_members(folder, args):
    places = (folder / 'list.txt').read_text().splitlines()
    for line, name in zip(places, ['a.mp4', 'b c.mp4', 'd.mkv'], strict=True):
        expected = frames_of(folder / name)
        for path in (name, line.split()[0]):
            found = frames_of(f's3://bucket/videos/{path}', backend_args=args)
            assert np.array_equal(found, expected)


def test_what_is_missing(folder, args):
    for path in (
        'bucket/no.mp4',
        'none/a.mp4',
        'bucket/no.tar@512@9',
        'bucket/videos',
    ):
        with pytest.raises(VideoError, match='no such file'):
            open_video(f's3://{path}', backend_args=args)
    with pytest.raises(UsageError, match='no_such_option'):
        open_video('s3://bucket/a.mp4', backend_args=dict(no_such_option=1))


def test_a_data_set(folder, args):
    pipeline = [
        dict(type='SeedSample'),
        dict(type='VideoInit'),
        dict(type='SampleFrames', clip_len=4, frame_interval=2),
        dict(type='VideoDecode'),
    ]
    stored, plain = (
        DATASETS.build(
            dict(
                type='RobustVideoDataset',
                ann_file=str(folder / 'list.txt'),
                data_prefix=dict(video=prefix),
                pipeline=pipeline,
                backend_args=given,
            )
        )
        for prefix, given in (
            ('s3://bucket/videos', args),
            (str(folder), None),
        )
    )
    for i in range(3):
        index = SampleIndex(i, seed=i)
        one, other = stored[index], plain[index]
        assert np.array_equal(one['imgs'], other['imgs'])
        assert one['label'] == other['label'] == i
    assert not stored.bad_videos.read()
