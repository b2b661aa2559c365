# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import pickle

import cv2
import numpy as np
import pytest
from mmaction.registry import DATASETS

from mmmotionmae.datasets import DAVISDataset, moving_shapes
from mmmotionmae.datasets.sequences import list_files, write_mask
from mmmotionmae.utils.errors import MaskError, SequenceError

PIPELINE = [
    dict(type='LoadSequence', size=(32, 48)),
    dict(type='LoadMasks'),
    dict(type='PackSequence'),
]


def davis(root, **kwargs):
    # MMEngine's serialisation collects garbage, which takes a while.
    return DAVISDataset(PIPELINE, root, serialize_data=False, **kwargs)


def blank(*ids):
    """A mask (20, 30) that has these objects, one column each."""
    mask = np.zeros((20, 30), np.uint8)
    mask[:, : len(ids)] = ids
    return mask


def write_sequence(
    root, name, masks, num_frames=3, resolution='480p', grey=False
):
    """Frames of noise, and masks by the index of their frame."""
    rng = np.random.default_rng(0)
    images = root / 'JPEGImages' / resolution / name
    images.mkdir(parents=True)
    for t in range(num_frames):
        frame = rng.integers(0, 256, (20, 30, 3), np.uint8)
        cv2.imwrite(str(images / f'{t:05d}.jpg'), frame)
    for t, mask in masks.items():
        path = root / 'Annotations' / resolution / name / f'{t:05d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        if grey:
            cv2.imwrite(str(path), mask)
        else:
            write_mask(path, mask)


def write_list(root, text, name='2017/val.txt'):
    path = root / 'ImageSets' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


@pytest.fixture
def root(tmp_path):
    """A small data set: ``b`` and ``a``, each with an object 1."""
    for name in ('a', 'b'):
        write_sequence(tmp_path, name, {t: blank(1) for t in range(3)})
    write_list(tmp_path, 'b\na\n')
    return tmp_path


def names_of(dataset):
    return [dataset.get_data_info(i)['sequence'] for i in range(len(dataset))]


# Which sequences


@pytest.mark.parametrize(
    'text',
    [
        'b\na\n',
        'b\na',
        'b\r\na\r\n',
        '\n b \n\n\ta\n\n',
        '\ufeffb\na\n',
        '/JPEGImages/480p/b/00000.jpg /Annotations/480p/b/00000.png\r\n'
        '/JPEGImages/480p/b/00001.jpg /Annotations/480p/b/00001.png\r\n'
        '/JPEGImages/480p/a/00000.jpg /Annotations/480p/a/00000.png\r\n',
    ],
)
def test_lists(root, text):
    write_list(root, text)
    dataset = davis(root)
    assert names_of(dataset) == ['b', 'a']
    info = dataset.get_data_info(1)
    images = root / 'JPEGImages/480p/a'
    masks = root / 'Annotations/480p/a'
    assert info['frame_paths'] == [
        str(images / f'{t:05d}.jpg') for t in range(3)
    ]
    assert info['mask_paths'] == [
        str(masks / f'{t:05d}.png') for t in range(3)
    ]
    assert info['binary_masks'] is False
    assert dataset.num_frames == 6


def test_split_year_and_own_list(root):
    write_list(root, 'a\n', '2019/mine.txt')
    assert names_of(davis(root, split='mine', year=2019)) == ['a']
    by_path = davis(root, ann_file='ImageSets/2019/mine.txt')
    assert names_of(by_path) == ['a']
    write_list(root, 'b\n', '480p/val.txt')  # where DAVIS-2016 has it
    assert names_of(davis(root, year='2016')) == ['b']
    write_list(root, 'a\n', '2016/val.txt')  # where DAVIS-2017 has it
    assert names_of(davis(root, year='2016')) == ['a']


def test_subset_has_the_order_of_the_list(root):
    dataset = davis(root, sequences=['a', 'b'])
    assert names_of(dataset) == ['b', 'a']
    assert names_of(davis(root, sequences=['a'])) == ['a']
    with pytest.raises(ValueError, match=r"no sequences \['c'\]"):
        davis(root, sequences=['a', 'c'])
    with pytest.raises(ValueError, match='no sequences are listed'):
        davis(root, sequences=[])


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'no sequences are listed'),
        ('a\nb\na\n', r"twice: \['a'\]"),
        ('../a\n', 'leads out'),
        ('/a\n', 'leads out'),
    ],
)
def test_bad_lists(root, text, message):
    write_list(root, text)
    with pytest.raises(ValueError, match=message):
        davis(root)


def test_missing_list(root):
    message = r"2017/test\.txt is missing.*\['2017/val\.txt'\]"
    with pytest.raises(FileNotFoundError, match=message):
        davis(root, split='test')
    with pytest.raises(FileNotFoundError, match=r'mine\.txt'):
        davis(root, ann_file='mine.txt')


@pytest.mark.parametrize('resolution', ['480p', ''])
def test_folder_without_list(tmp_path, resolution):
    """As YouTube-VOS: no ``ImageSets``, masks of every fifth frame."""
    masks = {0: blank(2), 5: blank(2)}
    for name in ('z9', 'a1'):
        write_sequence(tmp_path, name, masks, 7, resolution)
    (tmp_path / 'JPEGImages' / resolution / '.cache').mkdir()
    (tmp_path / 'JPEGImages' / resolution / 'notes.txt').touch()
    dataset = davis(tmp_path)
    assert names_of(dataset) == ['a1', 'z9']
    masks = dataset.get_data_info(0)['mask_paths']
    assert [t for t, path in enumerate(masks) if path] == [0, 5]
    sample = dataset[0]['data_samples']
    assert list(sample.gt_masks) == [0]
    assert np.array_equal(sample.gt_masks[0], blank(2))


def test_name_with_a_slash(root):
    write_sequence(root, 'walk/left', {0: blank(1)})
    write_list(root, 'walk/left\n')
    info = davis(root).get_data_info(0)
    assert info['sequence'] == 'walk/left'
    assert info['mask_paths'][1:] == [None, None]


# Which files


def test_missing_folders(root):
    write_list(root, 'a\nc\n')
    with pytest.raises(FileNotFoundError, match=r"'c' has no .*480p/c"):
        davis(root)
    (root / 'JPEGImages/480p/c').mkdir()
    with pytest.raises(FileNotFoundError, match="'c' has no frames"):
        davis(root)
    message = "JPEGImages/a is missing.*resolution='1080p'"
    with pytest.raises(FileNotFoundError, match=message):
        davis(root, resolution='1080p')
    with pytest.raises(FileNotFoundError, match='JPEGImages is missing'):
        davis(root / 'ImageSets')


def test_first_mask_is_missing(root):
    (root / 'Annotations/480p/a/00000.png').unlink()
    message = r'Annotations/480p/a/00000\.png is missing'
    with pytest.raises(FileNotFoundError, match=message):
        davis(root)


def test_mask_without_a_frame(root):
    (root / 'JPEGImages/480p/a/00001.jpg').unlink()
    with pytest.raises(SequenceError, match=r'Annotations/480p/a/00001\.png'):
        davis(root)


def test_broken_link(root):
    (root / 'JPEGImages/480p/a/00001.jpg').unlink()
    (root / 'JPEGImages/480p/a/00001.jpg').symlink_to(root / 'gone.jpg')
    with pytest.raises(FileNotFoundError, match=r'a/00001\.jpg'):
        davis(root)


def test_list_files(tmp_path):
    for name in ('f10.jpg', 'f9.JPG', 'f2.png', '._f2.jpg', 'f1.txt'):
        (tmp_path / name).touch()
    files = list_files(str(tmp_path), ('.jpg', '.png'))
    assert list(files) == ['f2', 'f9', 'f10']
    assert files['f9'] == str(tmp_path / 'f9.JPG')
    assert list_files(str(tmp_path / 'absent'), ('.jpg',)) == {}
    (tmp_path / 'f9.png').touch()
    with pytest.raises(SequenceError, match=r'f9\.JPG and .*f9\.png'):
        list_files(str(tmp_path), ('.jpg', '.png'))


def test_start_lists_and_does_not_decode(root, monkeypatch):
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(
        os, 'scandir', lambda path: listed.append(path) or scandir(path)
    )
    (root / 'JPEGImages/480p/a/00001.jpg').write_bytes(b'')
    (root / 'Annotations/480p/a/00001.png').write_bytes(b'')
    dataset = davis(root)
    assert len(listed) == 4  # frames and masks of two sequences
    with pytest.raises(SequenceError, match=r'a/00001\.jpg is no image'):
        dataset[1]


@pytest.mark.parametrize('bad', [dict(late_objects='add'), dict(binary='yes')])
def test_bad_arguments(root, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        davis(root, **bad)


# What the masks mean


def test_binary_masks(tmp_path):
    grey = {t: blank(255) for t in range(3)}
    write_sequence(tmp_path, 'grey', grey, grey=True)
    write_sequence(tmp_path, 'ids', {0: blank(1, 2)}, grey=True)
    write_sequence(tmp_path, 'void', {0: blank(255, 3)})
    dataset = davis(tmp_path)
    samples = [dataset[i]['data_samples'] for i in range(3)]
    assert [s.sequence for s in samples] == ['grey', 'ids', 'void']
    assert [s.binary_masks for s in samples] == [True, False, False]
    for sample, ids in zip(samples, [(1,), (1, 2), (0, 3)], strict=True):
        assert np.array_equal(sample.gt_masks[0], blank(*ids))

    forced = davis(tmp_path, binary=True)
    assert forced.get_data_info(1)['binary_masks'] is True
    with pytest.raises(MaskError, match=r'ids/00000\.png.*\[2\]'):
        forced[1]
    plain = davis(tmp_path, binary=False)
    with pytest.raises(MaskError, match=r'00000\.png has no obj.*binary=True'):
        plain[0]


def test_first_mask_is_broken(root):
    (root / 'Annotations/480p/a/00000.png').write_bytes(b'no image')
    with pytest.raises(MaskError, match=r'a/00000\.png'):
        davis(root)


LATE = {0: blank(4), 2: blank(9, 4, 4), 3: blank(9, 200), 4: blank(4, 200)}


def test_late_objects_are_ignored(tmp_path):
    write_sequence(tmp_path, 'a', LATE, 6)
    sample = davis(tmp_path)[0]['data_samples']
    assert list(sample.gt_masks) == [0]
    assert 'late_masks' not in sample.metainfo


def test_late_objects_are_injected(tmp_path):
    write_sequence(tmp_path, 'a', LATE, 6)
    dataset = davis(tmp_path, late_objects='inject')
    sample = dataset[0]['data_samples']
    assert sample.late_masks == {2: [9], 3: [200]}
    assert list(sample.gt_masks) == [0, 2, 3]
    assert np.array_equal(sample.gt_masks[0], blank(4))
    assert np.array_equal(sample.gt_masks[2], blank(9))
    assert np.array_equal(sample.gt_masks[3], blank(0, 200))


def test_first_object_may_be_late(tmp_path):
    write_sequence(tmp_path, 'a', {0: blank(), 1: blank(5)})
    with pytest.raises(MaskError, match='no objects'):
        davis(tmp_path)[0]
    dataset = davis(tmp_path, late_objects='inject')
    assert dataset[0]['data_samples'].late_masks == {1: [5]}


# Finished sequences


def test_finished_sequence_is_not_read(root):
    dataset = davis(root)
    dataset.finished = {'b'}
    for file in (root / 'JPEGImages/480p/b').iterdir():
        file.unlink()
    for file in (root / 'Annotations/480p/b').iterdir():
        file.unlink()
    assert len(dataset) == 2 and dataset.num_frames == 3
    item = dataset[0]
    assert item['inputs'] is None
    sample = item['data_samples']
    assert sample.sequence == 'b' and sample.finished is True
    assert sample.frame_names == ['00000', '00001', '00002']
    assert len(sample.mask_paths) == 3 and sample.binary_masks is False
    assert dataset[1]['data_samples'].finished is False


def test_lazy_and_pickled(root):
    dataset = DAVISDataset(PIPELINE, root, lazy_init=True)
    (root / 'ImageSets/2017/val.txt').write_text('a\n')
    assert names_of(dataset) == ['a']
    assert names_of(pickle.loads(pickle.dumps(dataset))) == ['a']


# Generated and real data


def test_generated_data(tmp_path):
    moving_shapes.write_dataset(
        tmp_path,
        0,
        0,
        0,
        num_davis=2,
        davis_frames=3,
        davis_size=32,
        disable=True,
    )
    pipeline = [
        dict(type='LoadSequence', size=32, divisor=16),
        dict(type='LoadMasks', frames='all'),
        dict(type='PackSequence'),
    ]
    dataset = DATASETS.build(
        dict(
            type='DAVISDataset',
            data_root=str(tmp_path / 'davis'),
            pipeline=pipeline,
        )
    )
    for i, num_objects in enumerate((1, 2)):
        item = dataset[i]
        assert item['inputs'].shape == (3, 3, 32, 32)
        masks = item['data_samples'].gt_masks
        assert list(masks) == [0, 1, 2]
        assert np.unique(masks[0]).tolist() == list(range(num_objects + 1))


@pytest.mark.parametrize(
    'folder, frames, objects',
    [('davis_tiny', 241, [1] * 5), ('davis_multi', 140, [2, 3, 2])],
)
def test_real_data(shared_data, folder, frames, objects):
    pipeline = [dict(type='LoadSequence', size=480), *PIPELINE[1:]]
    dataset = DAVISDataset(pipeline, shared_data / folder)
    assert dataset.num_frames == frames
    assert len(dataset) == len(objects)
    shortest = DAVISDataset(pipeline, shared_data / folder, year='2016')
    assert names_of(shortest) == names_of(dataset)
    sample = dataset[1]
    meta = sample['data_samples']
    assert sample['inputs'].shape[1:] == (3, 480, 832)
    assert meta.original_shape == meta.gt_masks[0].shape == (480, 854)
    assert np.unique(meta.gt_masks[0])[-1] == objects[1]
    assert None not in meta.mask_paths
