# Copyright (c) MotionMAE contributors. All rights reserved.
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from mmaction.registry import TRANSFORMS
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader

from mmmotionmae.datasets import (
    DAVISDataset,
    LoadMasks,
    LoadSequence,
    PackSequence,
)
from mmmotionmae.datasets.sequences import write_mask
from mmmotionmae.utils.errors import MaskError, SequenceError


def write_frames(folder, frames, suffix='.png'):
    paths = []
    for t, frame in enumerate(frames):
        paths.append(str(folder / f'{t:05d}{suffix}'))
        Image.fromarray(frame).save(paths[-1])
    return paths


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def bilinear(frame, height, width):
    """Bilinear resize with pixel centres at half integers, in float64."""
    out = frame.astype(float)
    for axis, size in enumerate((height, width)):
        length = out.shape[axis]
        x = ((np.arange(size) + 0.5) * length / size - 0.5).clip(0, length - 1)
        low = np.floor(x).astype(int)
        high = np.minimum(low + 1, length - 1)
        weight = (x - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        out = (
            out.take(low, axis) * (1 - weight) + out.take(high, axis) * weight
        )
    return out


# LoadSequence


@pytest.mark.parametrize(
    'size, side, original, expected',
    [
        (480, 'short', (480, 854), (480, 832)),  # DAVIS
        (480, 'short', (480, 910), (480, 896)),
        (480, 'short', (854, 480), (832, 480)),
        (480, 'short', (1080, 1920), (480, 832)),
        (480, 'short', (500, 500), (480, 448)),
        (480, 'short', (480, 832), (480, 832)),
        (880, 'long', (720, 1280), (448, 880)),  # VIP
        (880, 'long', (1280, 720), (880, 448)),
        (880, 'long', (500, 500), (880, 832)),
        ((320, 320), 'short', (480, 854), (320, 320)),  # JHMDB
        ((480, 880), 'short', (480, 854), (480, 880)),
    ],
)
def test_target_shape(size, side, original, expected):
    assert LoadSequence(size, side).target_shape(*original) == expected


def test_divisor():
    shape = LoadSequence(100, divisor=7).target_shape(200, 431)
    assert shape == (100, 210)  # 215.5 rounded down


def test_frames_are_resized_rgb(tmp_path):
    frames = noise(3, 60, 107, 3)
    paths = write_frames(tmp_path, frames)
    results = LoadSequence(40, divisor=8)(dict(frame_paths=paths))
    assert results['original_shape'] == (60, 107)
    assert results['img_shape'] == (40, 64)
    assert len(results['imgs']) == 3
    for img, frame in zip(results['imgs'], frames, strict=True):
        assert img.dtype == np.uint8 and img.shape == (40, 64, 3)
        assert np.abs(img - bilinear(frame, 40, 64)).max() <= 1


def test_frames_of_the_right_size_are_kept(tmp_path):
    frames = noise(2, 40, 64, 3)
    paths = write_frames(tmp_path, frames)
    results = LoadSequence((40, 64))(dict(frame_paths=paths))
    assert np.array_equal(results['imgs'], frames)


def test_grey_frame_becomes_rgb(tmp_path):
    frame = noise(40, 64)
    paths = write_frames(tmp_path, [frame])
    results = LoadSequence((40, 64))(dict(frame_paths=paths))
    assert np.array_equal(results['imgs'][0], frame[..., None].repeat(3, -1))


def test_exif_rotation_is_ignored(tmp_path):
    path = str(tmp_path / '0.jpg')
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(noise(40, 64, 3)).save(path, exif=exif)
    assert cv2.imread(path).shape == (64, 40, 3)
    results = LoadSequence((40, 64))(dict(frame_paths=[path]))
    assert results['original_shape'] == (40, 64)


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('share', [0, 0.3, 0.98])
def test_truncated_frame(tmp_path, suffix, share):
    paths = write_frames(tmp_path, noise(2, 64, 64, 3), suffix)
    with open(paths[1], 'rb+') as file:
        file.truncate(int(share * file.seek(0, 2)))
    with pytest.raises(SequenceError, match=f'00001{suffix}'):
        LoadSequence(64)(dict(frame_paths=paths))


def test_missing_frame(tmp_path):
    paths = write_frames(tmp_path, noise(1, 64, 64, 3))
    with pytest.raises(FileNotFoundError, match='absent'):
        LoadSequence(64)(dict(frame_paths=[*paths, str(tmp_path / 'absent')]))


def test_unequal_frames(tmp_path):
    first = write_frames(tmp_path, [noise(64, 80, 3)])
    other = write_frames(tmp_path, [noise(80, 64, 3)], '.bmp')
    message = r'00000\.png is 80x64, .*00000\.bmp is 64x80'
    with pytest.raises(SequenceError, match=message):
        LoadSequence(64)(dict(frame_paths=first + other))


def test_frame_too_small_for_the_divisor(tmp_path):
    paths = write_frames(tmp_path, [noise(40, 50, 3)])
    with pytest.raises(SequenceError, match='is 50x40: .*nothing is left'):
        LoadSequence(40)(dict(frame_paths=paths))


def test_only_one_frame_is_held_at_full_size(tmp_path):
    paths = write_frames(tmp_path, noise(1, 800, 1000, 3), '.jpg')
    tracemalloc.start()
    try:
        results = LoadSequence((80, 100))(dict(frame_paths=paths * 30))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    full, small = 800 * 1000 * 3, 80 * 100 * 3
    assert len(results['imgs']) == 30
    # Beside the results: the frame, the last one and the file.
    assert full < peak < 30 * small + 3 * full


# LoadMasks


@pytest.fixture
def sequence(tmp_path):
    """What the data set and LoadSequence hand over."""
    masks = noise(4, 20, 30) % 4
    paths = [str(tmp_path / f'{t:05d}.png') for t in range(4)]
    for path, mask in zip(paths, masks, strict=True):
        write_mask(path, mask)
    paths[2] = None
    return masks, dict(
        sequence='a',
        frame_paths=[f'a/{t:05d}.jpg' for t in range(4)],
        mask_paths=paths,
        original_shape=(20, 30),
        img_shape=(40, 60),
    )


def test_first_mask(sequence):
    masks, results = sequence
    loaded = LoadMasks()(results)['masks']
    assert list(loaded) == [0]
    assert loaded[0].dtype == np.uint8
    assert np.array_equal(loaded[0], masks[0])


def test_all_masks(sequence):
    masks, results = sequence
    loaded = LoadMasks('all')(dict(results, late_masks={1: [3]}))['masks']
    assert list(loaded) == [0, 1, 3]
    for t, mask in loaded.items():
        assert np.array_equal(mask, masks[t])


def test_late_masks_have_new_objects_only(sequence):
    masks, results = sequence
    late = {1: [3], 3: [1, 2]}
    loaded = LoadMasks()(dict(results, late_masks=late))['masks']
    assert list(loaded) == [0, 1, 3]
    assert np.array_equal(loaded[0], masks[0])
    assert np.array_equal(loaded[1], 3 * (masks[1] == 3))
    assert np.array_equal(loaded[3], masks[3] * (masks[3] < 3))


def test_mask_of_another_size(sequence):
    _, results = sequence
    results['original_shape'] = (30, 20)
    message = r'00000\.png is 30x20, its frame a/00000\.jpg 20x30'
    with pytest.raises(MaskError, match=message):
        LoadMasks()(results)


# PackSequence


def test_pack(sequence):
    masks, results = sequence
    imgs = list(noise(4, 40, 60, 3))
    results = LoadMasks()(dict(results, imgs=imgs, fps=25, pose=1))
    packed = PackSequence(meta_keys=('fps', 'absent'))(results)
    assert list(packed) == ['inputs', 'data_samples']
    inputs, sample = packed['inputs'], packed['data_samples']
    assert inputs.dtype == torch.uint8 and inputs.shape == (4, 3, 40, 60)
    for t, y, x, c in [(0, 1, 2, 0), (3, 39, 59, 2), (2, 7, 5, 1)]:
        assert inputs[t, c, y, x] == imgs[t][y, x, c]
    assert sample.metainfo == dict(
        sequence='a',
        frame_paths=results['frame_paths'],
        frame_names=['00000', '00001', '00002', '00003'],
        mask_paths=results['mask_paths'],
        original_shape=(20, 30),
        img_shape=(40, 60),
        finished=False,
        fps=25,
    )
    assert np.array_equal(sample.gt_masks[0], masks[0])
    assert list(sample.to_dict()['gt_masks']) == [0]
    del results['masks']
    assert 'gt_masks' not in PackSequence()(results)['data_samples']


@pytest.mark.parametrize('num_workers', [0, 2])
def test_in_a_data_loader(tmp_path, num_workers):
    frames = noise(2, 20, 30, 3)
    for name in ('a', 'b'):
        images = tmp_path / 'JPEGImages' / name
        images.mkdir(parents=True)
        write_frames(images, frames)
        masks = tmp_path / 'Annotations' / name
        write_mask(masks / '00000.png', np.eye(20, 30, dtype=np.uint8))
    pipeline = [
        dict(type='LoadSequence', size=(20, 30)),
        dict(type='LoadMasks'),
        dict(type='PackSequence'),
    ]
    dataset = DAVISDataset(pipeline, tmp_path)
    dataset.finished.add('a')
    loader = DataLoader(
        dataset, 1, num_workers=num_workers, collate_fn=pseudo_collate
    )
    first, second = loader
    assert first['inputs'] == [None]
    assert first['data_samples'][0].finished is True
    assert np.array_equal(
        second['inputs'][0].permute(0, 2, 3, 1).numpy(), frames
    )
    assert np.array_equal(
        second['data_samples'][0].gt_masks[0], np.eye(20, 30)
    )


# All


@pytest.mark.parametrize(
    'cfg, text',
    [
        (
            dict(type='LoadSequence', size=[480, 880]),
            "LoadSequence(size=(480, 880), side='short', divisor=64)",
        ),
        (dict(type='LoadMasks'), "LoadMasks(frames='first')"),
        (
            dict(type='PackSequence', meta_keys=['fps']),
            "PackSequence(meta_keys=('fps',))",
        ),
    ],
)
def test_registered_with_repr(cfg, text):
    assert repr(TRANSFORMS.build(cfg)) == text


@pytest.mark.parametrize(
    'transform, bad',
    [
        (LoadSequence, dict(size=480, side='width')),
        (LoadSequence, dict(size=(480,))),
        (LoadMasks, dict(frames='last')),
    ],
)
def test_bad_arguments(transform, bad):
    with pytest.raises(ValueError):
        transform(**bad)
