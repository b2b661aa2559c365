# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
from mmaction.registry import DATASETS
from mmengine.logging import MMLogger
from PIL import Image
from scipy.io import savemat

from mmmotionmae.datasets.sequences import JHMDBDataset
from mmmotionmae.utils.errors import SequenceError

PIPELINE = [
    dict(type='LoadSequence', size=(32, 32)),
    dict(type='PackSequence', meta_keys=['keypoints']),
]
# With the odd characters that there are in the names of JHMDB.
VIDEOS = {'walk/Day_@1_(x)_-_a_0': 3, 'walk/b_1': 2, 'pour/c_0': 11}


def joints_of(num_frames):
    """As MATLAB has them: (2, 15, T), from 1, some out of the frame."""
    rng = np.random.default_rng(num_frames)
    return rng.uniform(-5, 60, (2, 15, num_frames))


def write_video(root, name, num_frames):
    images = root / 'Rename_Images' / name
    images.mkdir(parents=True)
    for number in range(1, num_frames + 1):
        image = Image.new('RGB', (50, 40), (number, 0, 0))
        image.save(images / f'{number:05}.png')
    annotation = root / 'joint_positions' / name
    annotation.mkdir(parents=True)
    joints = dict(pos_img=joints_of(num_frames), scale=1.0)
    savemat(annotation / 'joint_positions.mat', joints)


@pytest.fixture
def jhmdb(tmp_path):
    """Three videos, one of them for training in split 1."""
    for name, num_frames in VIDEOS.items():
        write_video(tmp_path, name, num_frames)
    lists = {
        'walk_test_split1.txt': 'Day_@1_(x)_-_a_0.avi 2 \nb_1.avi 1 \n',
        'walk_test_split2.txt': 'Day_@1_(x)_-_a_0.avi 1 \nb_1.avi 2 \n',
        'pour_test_split1.txt': 'c_0.avi 2\n\n',
        '._pour_test_split1.txt': '\0',  # macOS leaves such files
    }
    (tmp_path / 'splits').mkdir()
    for name, text in lists.items():
        (tmp_path / 'splits' / name).write_text(text)
    return tmp_path


def build(root, **kwargs):
    return DATASETS.build(
        dict(type='JHMDBDataset', pipeline=PIPELINE, data_root=root, **kwargs)
    )


def names(dataset):
    return [dataset.get_data_info(i)['sequence'] for i in range(len(dataset))]


def test_test_videos_of_a_split(jhmdb):
    dataset = build(jhmdb)
    assert names(dataset) == ['pour/c_0', 'walk/Day_@1_(x)_-_a_0']
    assert dataset.num_frames == 14
    assert dataset.get_data_info(1)['frame_paths'] == [
        f'{jhmdb}/Rename_Images/walk/Day_@1_(x)_-_a_0/0000{n}.png'
        for n in (1, 2, 3)
    ]
    assert names(build(jhmdb, split=2)) == ['walk/b_1']
    assert len(JHMDBDataset.METAINFO['joints']) == 15


def test_joints_are_counted_from_zero_and_packed(jhmdb):
    sample = build(jhmdb)[0]
    assert sample['inputs'].shape == (11, 3, 32, 32)
    sample = sample['data_samples']
    assert sample.original_shape == (40, 50)
    expected = joints_of(11)
    assert sample.keypoints.shape == (11, 15, 2)
    for t, joint, axis in np.ndindex(11, 15, 2):
        value = sample.keypoints[t, joint, axis]
        assert value == expected[axis, joint, t] - 1


def test_a_finished_sequence_keeps_its_joints(jhmdb):
    dataset = build(jhmdb)
    dataset.finished = {'pour/c_0'}
    sample = dataset[0]
    assert sample['inputs'] is None
    assert sample['data_samples'].keypoints.shape == (11, 15, 2)


def test_a_list_of_paths_on_another_machine(jhmdb):
    (jhmdb / 'list.txt').write_text(
        '/a/joint_positions/walk/b_1/joint_positions.mat '
        '/a/Rename_Images/walk/b_1\n'
    )
    assert names(build(jhmdb, ann_file='list.txt')) == ['walk/b_1']


@pytest.mark.parametrize(('num_frames', 'used'), [(5, 2), (1, 1)])
def test_what_frames_and_joints_do_not_share_is_left_out(
    jhmdb, num_frames, used, monkeypatch
):
    warnings = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'warning', warnings.append)
    images = jhmdb / 'Rename_Images/walk/b_1'
    for path in images.iterdir():
        path.unlink()
    for number in range(1, num_frames + 1):
        Image.new('RGB', (50, 40)).save(images / f'{number:05}.png')
    info = build(jhmdb, split=2).get_data_info(0)
    assert f'{num_frames} frames' in warnings[0]
    assert f'joints of 2; the first {used} are used' in warnings[0]
    assert len(info['frame_paths']) == len(info['mask_paths']) == used
    assert info['frame_paths'][-1].endswith(f'{used:05}.png')
    np.testing.assert_array_equal(
        info['keypoints'][:, :, 1], joints_of(2)[1, :, :used].T - 1
    )


def test_a_gap_in_the_frames_is_an_error(jhmdb):
    (jhmdb / 'Rename_Images/pour/c_0/00004.png').unlink()
    with pytest.raises(SequenceError, match='number 4 is .*00005.png'):
        build(jhmdb)


def test_what_is_missing_is_named(jhmdb):
    with pytest.raises(FileNotFoundError, match='_test_split4.txt'):
        build(jhmdb, split=4)
    path = jhmdb / 'joint_positions/pour/c_0/joint_positions.mat'
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f'{path} is missing'):
        build(jhmdb)
    (jhmdb / 'Rename_Images/pour').rename(jhmdb / 'elsewhere')
    with pytest.raises(FileNotFoundError, match="'pour/c_0' has no frames"):
        build(jhmdb)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'cannot be read'),
        (b'no MATLAB file at all', 'cannot be read'),
        (dict(pos_world=joints_of(11)), "KeyError: 'pos_img'"),
        (dict(pos_img=joints_of(11)[:, :14]), r'shape \(2, 14, 11\)'),
        (dict(pos_img=joints_of(11) * np.nan), 'not finite'),
        (dict(pos_img=np.zeros((2, 15, 0))), r'empty|shape'),
    ],
)
def test_a_broken_annotation_is_named(jhmdb, content, message):
    path = jhmdb / 'joint_positions/pour/c_0/joint_positions.mat'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        savemat(path, content)
    with pytest.raises(SequenceError, match=f'{path}.*{message}'):
        build(jhmdb)


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('splits/pour_test_split1.txt', 'c_0.avi 3', 'line 1: .*c_0.avi 3'),
        ('splits/pour_test_split1.txt', 'a.avi 1\nc_0.avi', 'line 2: '),
        ('list.txt', 'walk/b_1', 'line 1: .*walk/b_1'),
    ],
)
def test_a_broken_list_is_named(jhmdb, name, text, message):
    (jhmdb / name).write_text(text)
    with pytest.raises(SequenceError, match=f'{jhmdb / name}, {message}'):
        build(jhmdb, ann_file=name.split('/')[0])
