# Copyright (c) MotionMAE contributors. All rights reserved.
import cv2
import numpy as np
import pytest
from PIL import Image

from mmmotionmae.datasets.sequences import (
    PALETTE,
    is_binary_mask,
    object_ids,
    read_mask,
    write_mask,
)
from mmmotionmae.utils.errors import MaskError

IDS = np.array([[0, 1, 7], [255, 254, 0]], np.uint8)
BINARY = np.array([[0, 255, 255], [0, 0, 255]], np.uint8)


def save(path, values, mode):
    """Write values with Pillow, as palette or other pixels."""
    picture = Image.fromarray(values)
    if mode == 'P':
        picture.putpalette(bytes(range(256)) * 3)
    Image.Image.save(
        picture if mode == 'P' else picture.convert(mode), path, 'PNG'
    )
    with Image.open(path) as written:
        assert written.mode == mode
    return path


def test_palette_is_that_of_pascal_voc():
    assert PALETTE.shape == (256, 3) and PALETTE.dtype == np.uint8
    assert PALETTE[[0, 1, 2, 3, 4, 8, 21, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [64, 0, 0],
        [128, 64, 128],
        [224, 224, 192],
    ]


def test_palette_is_that_of_davis(shared_data):
    mask = next((shared_data / 'davis_tiny/Annotations').rglob('*.png'))
    with Image.open(mask) as picture:
        theirs = np.array(picture.getpalette()).reshape(-1, 3)
    assert np.array_equal(theirs, PALETTE[: len(theirs)])


@pytest.mark.parametrize('mode', ['P', 'L', 'LA', 'RGB', 'RGBA'])
def test_ids_are_the_values(tmp_path, mode):
    mask = read_mask(save(tmp_path / 'mask.png', IDS, mode))
    assert mask.dtype == np.uint8 and mask.flags.c_contiguous
    assert mask.tolist() == [[0, 1, 7], [0, 254, 0]]  # void: background


@pytest.mark.parametrize('mode', ['P', 'L', '1', 'LA', 'RGB', 'RGBA'])
def test_binary_mask(tmp_path, mode):
    path = save(tmp_path / 'mask.png', BINARY, mode)
    mask = read_mask(path, binary=True)
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0, 1, 1], [0, 0, 1]]
    assert is_binary_mask(path) == (mode != 'P')


def test_grey_of_one_bit_is_the_object_either_way(tmp_path):
    path = save(tmp_path / 'mask.png', BINARY, '1')
    assert read_mask(path).tolist() == [[0, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    'values, binary',
    [
        ([[0, 0]], False),
        ([[0, 1]], False),
        ([[0, 255]], True),
        ([[255, 255]], True),
        ([[0, 1, 255]], False),
        ([[0, 128, 255]], False),
    ],
)
def test_what_is_binary(tmp_path, values, binary):
    cv2.imwrite(str(tmp_path / 'mask.png'), np.array(values, np.uint8))
    assert is_binary_mask(tmp_path / 'mask.png') == binary


def test_binary_mask_tolerates_ones(tmp_path):
    path = save(tmp_path / 'mask.png', np.array([[0, 1]], np.uint8), 'L')
    assert read_mask(path, binary=True).tolist() == [[0, 1]]


def test_other_values_in_a_binary_mask(tmp_path):
    path = save(tmp_path / 'mask.png', IDS, 'L')
    with pytest.raises(MaskError, match=r'mask\.png.*\[7, 254\]'):
        read_mask(path, binary=True)


def test_colours_are_no_ids(tmp_path):
    path = save(tmp_path / 'mask.png', IDS, 'P')
    with Image.open(path) as picture:
        picture.putpalette(PALETTE.tobytes())
        picture.convert('RGB').save(path)
    for read in (read_mask, is_binary_mask):
        with pytest.raises(MaskError, match=r'mask\.png is a colour image'):
            read(path)


def test_sixteen_bits(tmp_path):
    path = tmp_path / 'mask.png'
    cv2.imwrite(str(path), np.full((2, 2), 300, np.uint16))
    with pytest.raises(MaskError, match=r"mask\.png has pixels .*'I(;16)?'"):
        read_mask(path)


@pytest.mark.parametrize('share', [0, 0.1, 0.5, 0.9])
def test_truncated(tmp_path, share):
    path = tmp_path / 'mask.png'
    noise = np.random.default_rng(0).integers(0, 9, (99, 99), np.uint8)
    write_mask(path, noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(MaskError, match=r'mask\.png cannot be read'):
        read_mask(path)


def test_damaged(tmp_path):
    path = tmp_path / 'mask.png'
    write_mask(path, np.eye(50, dtype=np.uint8))
    content = bytearray(path.read_bytes())
    at = content.index(b'IDAT')
    content[at + 8 : at + 12] = b'\x00\xff\x00\xff'
    path.write_bytes(content)
    with pytest.raises(MaskError, match=r'mask\.png'):
        read_mask(path)


def test_no_image_no_file_other_format(tmp_path):
    (tmp_path / 'text.png').write_text('a mask')
    # The values of a JPEG are smeared; they are no ids.
    Image.fromarray(IDS).save(tmp_path / 'jpeg.png', 'JPEG')
    for name in ('text.png', 'jpeg.png', 'absent.png'):
        with pytest.raises(MaskError, match=name):
            read_mask(tmp_path / name)


def test_object_ids():
    assert object_ids(IDS) == [1, 7, 254, 255]
    assert object_ids(np.zeros((3, 3), np.uint8)) == []


def test_written_and_read(tmp_path):
    mask = np.random.default_rng(0).integers(0, 255, (31, 47), np.uint8)
    path = tmp_path / 'new/folder/mask.png'
    write_mask(path, mask)
    assert [p.name for p in path.parent.iterdir()] == ['mask.png']
    with Image.open(path) as picture:
        assert picture.mode == 'P' and picture.size == (47, 31)
        assert np.array_equal(np.asarray(picture), mask)
        assert np.array_equal(picture.convert('RGB'), PALETTE[mask])
    assert np.array_equal(read_mask(path), mask)
    write_mask(path, mask.T)  # replaced; not contiguous
    assert np.array_equal(read_mask(path), mask.T)


@pytest.mark.parametrize(
    'mask',
    [
        np.zeros((2, 2), np.int64),
        np.zeros((2, 2, 3), np.uint8),
        np.zeros((0, 2), np.uint8),
    ],
)
def test_no_mask_to_write(tmp_path, mask):
    with pytest.raises(ValueError, match='uint8'):
        write_mask(tmp_path / 'mask.png', mask)
    assert not list(tmp_path.iterdir())
