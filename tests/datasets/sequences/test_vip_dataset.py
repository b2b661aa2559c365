# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
from mmaction.registry import DATASETS
from PIL import Image

from mmmotionmae.datasets.sequences import VIPDataset
from mmmotionmae.utils.errors import SequenceError

PIPELINE = [
    dict(type='LoadSequence', size=64, side='long', divisor=16),
    dict(type='LoadMasks'),
    dict(type='PackSequence'),
]
VIDEOS = dict(videos8=[1, 26, 101], videos12=[5], videos3=[1])


def mask_of(number):
    """Categories 0 to 19, others in each frame."""
    return np.random.default_rng(number).integers(0, 20, (30, 40), np.uint8)


@pytest.fixture
def vip(tmp_path):
    """Three videos, two of them listed."""
    for video, numbers in VIDEOS.items():
        for number in numbers:
            image = tmp_path / f'Images/{video}/{number:012}.jpg'
            mask = (
                tmp_path / f'Annotations/Category_ids/{video}/{number:012}.png'
            )
            for path in (image, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (40, 30), (number, 0, 0)).save(image)
            Image.fromarray(mask_of(number)).save(mask)
    (tmp_path / 'lists').mkdir()
    (tmp_path / 'lists/val_videos.txt').write_text('videos8\nvideos12\n')
    return tmp_path


def build(root, **kwargs):
    return DATASETS.build(
        dict(type='VIPDataset', pipeline=PIPELINE, data_root=root, **kwargs)
    )


def test_frames_and_masks_of_the_listed_videos(vip):
    dataset = build(vip)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [i['sequence'] for i in infos] == ['videos8', 'videos12']
    assert dataset.num_frames == 4
    info = infos[0]
    assert info['frame_paths'] == [
        f'{vip}/Images/videos8/{n:012}.jpg' for n in (1, 26, 101)
    ]
    assert info['mask_paths'] == [
        f'{vip}/Annotations/Category_ids/videos8/{n:012}.png'
        for n in (1, 26, 101)
    ]
    assert len(VIPDataset.METAINFO['classes']) == 20


def test_a_sample_has_the_categories_of_the_first_frame(vip):
    sample = build(vip)[0]
    assert sample['inputs'].shape == (3, 3, 48, 64)
    sample = sample['data_samples']
    assert sample.original_shape == (30, 40)
    np.testing.assert_array_equal(sample.gt_masks[0], mask_of(1))


@pytest.mark.parametrize(
    'text',
    [
        'datasets/VIP/Images/videos3 datasets/VIP/Annotations/x/videos3\n',
        'videos3 26 0\n\n',
        '/data/VIP/Images/videos3/\n',
    ],
)
def test_lists_of_other_forms(vip, text):
    (vip / 'other.txt').write_text(text)
    dataset = build(vip, ann_file='other.txt')
    assert dataset.get_data_info(0)['sequence'] == 'videos3'
    assert len(dataset) == 1


def test_categories_in_the_root(vip):
    (vip / 'Annotations/Category_ids').rename(vip / 'Category_ids')
    paths = build(vip).get_data_info(1)['mask_paths']
    assert paths == [f'{vip}/Category_ids/videos12/{5:012}.png']


def test_what_is_missing_is_named(vip):
    with pytest.raises(FileNotFoundError, match='no.txt is missing'):
        build(vip, ann_file='no.txt')
    (vip / f'Annotations/Category_ids/videos8/{26:012}.png').unlink()
    with pytest.raises(SequenceError, match=f'1 frames.* {26:012}'):
        build(vip)
    (vip / f'Images/videos12/{5:012}.jpg').unlink()
    with pytest.raises(FileNotFoundError, match="'videos12' has no frames"):
        build(vip, sequences=['videos12'])
