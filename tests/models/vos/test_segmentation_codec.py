# Copyright (c) MotionMAE contributors. All rights reserved.
import cv2
import numpy as np
import pytest
import torch
from helpers import naive_masks as naive
from mmaction.registry import TASK_UTILS
from mmaction.structures import ActionDataSample
from PIL import Image

from mmmotionmae.models.vos import SegmentationCodec

ORIGINAL, IMAGE, GRID = (45, 71), (48, 80), (6, 10)
CRW = dict(
    downsample='bilinear',
    min_max=False,
    nearest='opencv',
    first_frame='decoded',
)


def draw_mask(ids=(0, 7, 200), shape=ORIGINAL, seed=0):
    """Blobs of these ids, uint8."""
    rng = np.random.default_rng(seed)
    noise = rng.random((len(ids), *shape), dtype=np.float32)
    sigma = min(shape) / 12
    blobs = [cv2.GaussianBlur(image, (0, 0), sigma) for image in noise]
    return np.array(ids, dtype=np.uint8)[np.argmax(blobs, 0)]


def pack(masks, late_masks=None, original=ORIGINAL, image=IMAGE):
    """A data sample; ``masks`` of the first frame, or of several by number."""
    sample = ActionDataSample(
        metainfo=dict(original_shape=original, img_shape=image)
    )
    if late_masks:
        sample.set_metainfo(dict(late_masks=late_masks))
    if isinstance(masks, np.ndarray):
        masks = {0: masks}
    sample.set_field(masks, 'gt_masks')
    return sample


@pytest.mark.parametrize('original', [(45, 71), (97, 33), (6, 10), (5, 9)])
def test_nearest_takes_the_middle_of_each_patch(original):
    mask = draw_mask(shape=original)
    maps, labels = SegmentationCodec().encode(
        pack(mask, original=original), GRID
    )
    assert labels.ids.tolist() == [0, 7, 200]
    assert maps.dtype == torch.float32
    np.testing.assert_array_equal(
        maps, naive.encode_dino(mask, labels.ids, GRID)
    )
    # So does Pillow, as DINO's code calls it.
    small = Image.fromarray(mask).resize(GRID[::-1], 0)
    np.testing.assert_array_equal(labels.ids[maps.argmax(0)], small)


@pytest.mark.parametrize('original', [(45, 71), (97, 33), (48, 80)])
def test_bilinear_interpolates_a_mask_of_each_id(original):
    mask = draw_mask(shape=original)
    maps, labels = SegmentationCodec(**CRW).encode(
        pack(mask, original=original), GRID
    )
    assert labels.ids.tolist() == [0, 7, 200]
    assert maps.dtype == torch.float32
    np.testing.assert_allclose(
        maps, naive.encode_crw(mask, labels.ids, IMAGE, GRID), atol=1e-6
    )
    assert ((maps > 0.1) & (maps < 0.9)).any()


@pytest.mark.parametrize('nearest', ['pillow', 'opencv'])
@pytest.mark.parametrize('argmax_size', ['img', 'original'])
@pytest.mark.parametrize('min_max', [True, False])
@pytest.mark.parametrize('original', [(45, 71), (131, 58), IMAGE])
def test_decode(original, min_max, argmax_size, nearest):
    rng = np.random.default_rng(1)
    maps = rng.uniform(size=(3, *GRID)) * [[[1]], [[0.8]], [[0.02]]]
    codec = SegmentationCodec(
        min_max=min_max, argmax_size=argmax_size, nearest=nearest
    )
    mask = draw_mask(shape=original)
    _, labels = codec.encode(pack(mask, original=original), GRID)
    result = codec.decode(torch.from_numpy(maps).float(), labels)
    assert result.shape == original and result.dtype == np.uint8
    ids = (0, 7, 200)
    if argmax_size == 'original':
        want = naive.decode(maps, ids, original, min_max)
    else:
        want = naive.decode(maps, ids, IMAGE, min_max)
        want = naive.nearest(want, original, nearest)
    np.testing.assert_array_equal(result, want)
    # Stretching matters: the weakest label is lost without.
    assert (200 in result) == min_max


def test_the_two_nearest_pixels_differ():
    maps = torch.rand(3, *GRID)
    results = []
    for nearest in ('pillow', 'opencv'):
        codec = SegmentationCodec(nearest=nearest)
        _, labels = codec.encode(pack(draw_mask()), GRID)
        results.append(codec.decode(maps, labels))
    assert (results[0] != results[1]).any()


@pytest.mark.parametrize('arguments', [{}, CRW])
@pytest.mark.parametrize('ids', [(0, 1), (0, 7, 200), (0, 2, 254, 255)])
def test_ids_come_back(ids, arguments):
    """A mask that is made of whole patches is the same afterwards."""
    small = draw_mask(ids, (12, 20))
    mask = small.repeat(8, 0).repeat(8, 1)  # patches of 4x4 pixels
    sample = pack(mask, original=(96, 160), image=(96, 160))
    codec = SegmentationCodec(**arguments)
    maps, labels = codec.encode(sample, (24, 40))
    result = codec.decode(maps, labels)
    assert np.unique(result).tolist() == list(ids)
    assert (result == mask).mean() > 0.95
    # Away from the borders between objects nothing may change.
    inner = np.ones_like(mask, bool)
    for axis in (0, 1):
        for shift in range(-4, 5):
            inner &= np.roll(mask, shift, axis) == mask
    assert inner.mean() > 0.3
    np.testing.assert_array_equal(result[inner], mask[inner])


@pytest.mark.parametrize('value', [1e-6, 0.1, 0.5, 0.9, 1])
@pytest.mark.parametrize('label', [0, 1, 2])
def test_a_map_that_is_constant_covers_the_frame(label, value):
    codec = SegmentationCodec()
    _, labels = codec.encode(pack(draw_mask()), GRID)
    maps = torch.zeros(3, *GRID)
    maps[label] = value
    assert (codec.decode(maps, labels) == labels.ids[label]).all()
    # Rounding is no label that is stronger here than there.
    noise = torch.randint(-2, 3, GRID) * 1e-7
    maps[label] += value * noise
    assert (codec.decode(maps, labels) == labels.ids[label]).all()


def test_faint_maps_are_stretched():
    codec = SegmentationCodec()
    _, labels = codec.encode(pack(draw_mask()), GRID)
    maps = torch.zeros(3, *GRID)
    maps[0] = torch.linspace(1, 0.999, GRID[1])  # strong at the left
    maps[1] = torch.linspace(0, 1e-9, GRID[1])  # at the right
    result = codec.decode(maps, labels)
    assert (result[:, :35] == 0).all() and (result[:, 36:] == 7).all()
    # What is nowhere is not stretched, either: background.
    assert (codec.decode(torch.zeros_like(maps), labels) == 0).all()


def test_first_mask_without_background():
    mask = draw_mask((3, 9))
    # Of DINO's form it is a label that nothing has,
    maps, labels = SegmentationCodec().encode(pack(mask), GRID)
    assert labels.ids.tolist() == [0, 3, 9]
    assert not maps[0].any() and (maps.sum(0) == 1).all()
    # of CRW's it is none.
    maps, labels = SegmentationCodec(**CRW).encode(pack(mask), GRID)
    assert labels.ids.tolist() == [3, 9]
    torch.testing.assert_close(maps.sum(0), torch.ones(GRID))


@pytest.mark.parametrize('arguments', [{}, CRW])
def test_first_mask_without_objects(arguments):
    codec = SegmentationCodec(**arguments)
    maps, labels = codec.encode(pack(np.zeros(ORIGINAL, np.uint8)), GRID)
    assert labels.ids.tolist() == [0]
    assert (maps == 1).all()
    assert (codec.decode(maps, labels) == 0).all()


def test_an_object_that_the_grid_loses_keeps_its_label():
    mask = np.zeros(ORIGINAL, np.uint8)
    mask[0, 0] = 5
    mask[20:40, 20:60] = 6
    maps, labels = SegmentationCodec().encode(pack(mask), GRID)
    assert labels.ids.tolist() == [0, 5, 6]
    assert maps[1].sum() == 0 and maps[2].sum() > 0


def late_problem(arguments):
    """Object 4 is there at first, 6 and 9 come in frame 2."""
    first = np.zeros(ORIGINAL, np.uint8)
    first[5:30, 5:40] = 4
    later = np.zeros(ORIGINAL, np.uint8)
    later[0:20, 30:70] = 6
    later[25:44, 10:50] = 9
    codec = SegmentationCodec(**arguments)
    sample = pack({0: first, 2: later}, {2: [6, 9]})
    maps, labels = codec.encode(sample, GRID)
    return codec, sample, first, later, maps, labels


@pytest.mark.parametrize('arguments', [{}, CRW])
def test_insert(arguments):
    codec, sample, first, later, maps, labels = late_problem(arguments)
    assert labels.ids.tolist() == [0, 4, 6, 9]
    assert not maps[2:].any() and maps[1].any()
    predicted = codec.decode(maps, labels)
    new_maps, output = codec.insert(maps, predicted, sample, 2, labels)
    assert output.dtype == np.uint8
    np.testing.assert_array_equal(
        output, np.where(later > 0, later, predicted)
    )
    if arguments:
        new = naive.encode_crw(later, (6, 9), IMAGE, GRID)
    else:
        new = naive.encode_dino(later, (6, 9), GRID)
    np.testing.assert_allclose(new_maps[2:], new, atol=1e-6)
    # The others make room for them.
    np.testing.assert_allclose(
        new_maps[:2], maps[:2] * (1 - new.sum(0)), atol=1e-6
    )
    np.testing.assert_allclose(new_maps.sum(0), 1, atol=1e-6)


def test_insert_leaves_known_objects_to_the_prediction():
    """A full mask, as of ``LoadMasks('all')``, gives the same."""
    codec, sample, first, later, maps, labels = late_problem({})
    want = codec.insert(maps, first, sample, 2, labels)
    full = np.where(later > 0, later, 4).astype(np.uint8)
    sample.gt_masks[2] = full
    maps, output = codec.insert(maps, first, sample, 2, labels)
    torch.testing.assert_close(maps, want[0])
    np.testing.assert_array_equal(output, want[1])


def test_registered_and_described():
    codec = TASK_UTILS.build(dict(type='SegmentationCodec', **CRW))
    assert codec.describe() == CRW | dict(argmax_size='img')


@pytest.mark.parametrize(
    'name', ['downsample', 'argmax_size', 'nearest', 'first_frame']
)
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=f"{name} must be one of .*'area'"):
        SegmentationCodec(**{name: 'area'})
