# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest

from mmmotionmae.datasets.sequences import PALETTE
from mmmotionmae.visualization import (
    ColourBar,
    add_caption,
    contact_sheet,
    draw_contours,
    draw_keypoints,
    overlay_mask,
)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)


@pytest.fixture
def mask():
    """Objects that touch each other and the border, one with a hole."""
    mask = np.zeros((9, 12), np.uint8)
    mask[0:7, 0:6] = 1
    mask[3, 2] = 0
    mask[2:8, 6:11] = 3
    return mask


def test_overlay_mixes_the_colours(image, mask):
    before = image.copy()
    result = overlay_mask(image, mask, alpha=0.25)
    for y in range(9):
        for x in range(12):
            expected = image[y, x].astype(float)
            if mask[y, x]:
                expected = 0.75 * expected + 0.25 * PALETTE[mask[y, x]]
            assert (result[y, x] == np.rint(expected)).all()
    assert result.dtype == np.uint8 and (image == before).all()
    grey = np.full((1, 1, 3), 100, np.uint8)
    half = overlay_mask(grey, np.ones((1, 1), np.uint8))
    assert half.tolist() == [[[114, 50, 50]]]  # palette: (128, 0, 0)


@pytest.mark.parametrize('color', [None, (1, 2, 3)])
@pytest.mark.parametrize('thickness', [1, 2])
def test_contours_are_the_rim_of_each_object(image, mask, color, thickness):
    result = draw_contours(image, mask, color, thickness)
    drawn = 0
    for y in range(9):
        for x in range(12):
            near = mask[
                max(0, y - thickness) : y + thickness + 1,
                max(0, x - thickness) : x + thickness + 1,
            ]
            expected = image[y, x]
            if mask[y, x] and (near != mask[y, x]).any():
                expected = color or PALETTE[mask[y, x]]
                drawn += 1
            assert tuple(result[y, x]) == tuple(expected)
    assert 0 < drawn < (mask > 0).sum()
    assert mask[0, 0] and (result[0, 0] == image[0, 0]).all()


def test_image_and_mask_must_fit(image):
    for function in (overlay_mask, draw_contours):
        with pytest.raises(ValueError, match=r'\(9, 12\) and \(9, 11\)'):
            function(image, np.zeros((9, 11), np.uint8))


def test_keypoints_are_dots():
    image = np.full((20, 30, 3), 7, np.uint8)
    points = np.array([[4.4, 5.6], [np.nan, 9], [29, 0], [100, 100]])
    result = draw_keypoints(image, points, radius=2)
    y, x = np.mgrid[:20, :30]
    dots = [(4, 6, PALETTE[1]), (29, 0, PALETTE[3])]
    for left, top, color in dots:
        distance = np.hypot(x - left, y - top)
        assert (result[distance <= 2] == color).all()
        far = (distance > 2.5) & (distance < 5)
        assert (result[far] == 7).all()
    coloured = (result != image).any(-1)
    assert coloured.sum() < 25
    white = draw_keypoints(image, points, (255, 255, 255), radius=0)
    assert {tuple(p) for p in np.argwhere(white[..., 0] == 255)} == {
        (6, 4),
        (0, 29),
    }


def test_contact_sheet_goes_row_after_row():
    images = [np.full((5, 4, 3), i + 1, np.uint8) for i in range(5)]
    assert (contact_sheet(images[:1]) == images[0]).all()
    sheet = contact_sheet(images, columns=3, gap=1)
    expected = np.zeros((11, 14, 3), np.uint8)
    expected[0:5, 0:4], expected[0:5, 5:9], expected[0:5, 10:14] = 1, 2, 3
    expected[6:11, 0:4], expected[6:11, 5:9] = 4, 5
    assert (sheet == expected).all()


@pytest.mark.parametrize(
    'text,width', [('00001', 60), ('00001', 640), ('a caption ' * 12, 320)]
)
def test_caption_is_above_and_fits(text, width):
    image = np.full((10, width, 3), 9, np.uint8)
    result = add_caption(image, text)
    assert result.shape[1] == width and (result[-10:] == 9).all()
    strip = result[:-10]
    assert (strip > 100).sum() > 20
    assert not strip[:, -1].any() and not strip[-1].any()


def test_a_colour_bar_has_0_in_its_middle():
    colours = np.zeros((101, 3), np.uint8)
    colours[:, 0] = np.arange(100, 201)  # red tells the value
    image = np.zeros((10, 600, 3), np.uint8)
    strip = add_caption(image, 'text', ColourBar(colours, 0.5))[:-10]
    row = strip[len(strip) // 2]
    shown = row[(row[:, 0] > 99) & (row[:, 1] == 0), 0].astype(int)
    assert (np.diff(shown) >= 0).all()
    assert shown[0] == 100 and shown[-1] == 200
    # The middle value ends the one half and begins the other.
    assert (shown == 150).sum() >= 2
    bare = add_caption(image, 'text')[:-10]
    place = strip.shape[1] // 2
    np.testing.assert_array_equal(strip[:, :place], bare[:, :place])
