# Copyright (c) MotionMAE contributors. All rights reserved.
"""Pictures of reconstructions."""

import cv2
import numpy as np
import pytest
import torch
from conftest import as_batch, tube_mask
from PIL import Image

from mmmotionmae.models.targets import (
    FrameDifferenceTarget,
    PixelTarget,
    diverging_colours,
    draw_signed,
    motion_map,
    motion_scale,
)
from mmmotionmae.utils.video_files import write_gif
from mmmotionmae.visualization import (
    draw_film,
    draw_sheet,
    heat_map,
    reconstruct,
    reconstruct_batch,
    reconstruction_rows,
    statistics_note,
)
from mmmotionmae.visualization.overlay import caption

TARGETS = dict(
    pixel=PixelTarget(name='pixel'),
    motion=FrameDifferenceTarget(name='motion', norm='clip'),
)
STRIP, GAP = 28, 4  # of captions, between frames


@pytest.fixture
def reconstruction(tiny_model):
    """Of two clips, and their frames."""
    frames = torch.randint(256, (2, 3, 8, 32, 32), dtype=torch.uint8)
    data = as_batch(frames, tube_mask())
    return reconstruct_batch(tiny_model(), data), frames


def clip(reconstruction, i=0):
    return {name: v[i] for name, v in reconstruction.videos.items()}


def hidden(mask):
    """(L, ) to (T, H, W), without the project's own code."""
    places = mask.numpy().reshape(4, 4, 4)
    return places.repeat(2, 0).repeat(8, 1).repeat(8, 2)


def test_visible_tubelets_are_the_input_bit_for_bit(reconstruction):
    result, frames = reconstruction
    for i in range(2):
        videos = clip(result, i)
        assert torch.equal(videos['input'], frames[i].float() / 255)
        rows = reconstruction_rows(videos, TARGETS)
        true = frames[i].permute(1, 2, 3, 0).numpy()
        np.testing.assert_array_equal(rows['input'].frames, true)
        masked = hidden(result.mask[i])
        for name in ('masked', 'pixel_reconstruction'):
            shown = rows[name].frames
            np.testing.assert_array_equal(shown[~masked], true[~masked])
        assert (rows['masked'].frames[masked] == 128).all()
        off = rows['pixel_reconstruction'].frames[masked] != true[masked]
        assert off.mean() > 0.9
        # Of the motion, too.
        predicted = rows['motion_reconstruction'].frames
        same = predicted == rows['motion'].frames
        assert same[~masked].all() and same[masked].mean() < 0.3


def test_where_frames_are_in_the_sheet(reconstruction):
    result, frames = reconstruction
    rows = reconstruction_rows(clip(result), TARGETS)
    assert list(rows) == [
        'input',
        'masked',
        'pixel_reconstruction',
        'motion',
        'motion_reconstruction',
    ]
    sheet = draw_sheet(rows)
    side = 96  # every pixel three times
    assert sheet.shape == (5 * (STRIP + side), 8 * (side + GAP) - GAP, 3)
    for number, row in enumerate(rows.values()):
        top = number * (STRIP + side) + STRIP
        assert sheet[top - STRIP : top].any()  # the caption
        for t, frame in enumerate(row.frames):
            left = t * (side + GAP)
            part = sheet[top : top + side, left : left + side]
            np.testing.assert_array_equal(
                part, frame.repeat(3, 0).repeat(3, 1)
            )


def test_where_frames_are_in_the_film(reconstruction):
    rows = reconstruction_rows(clip(reconstruction[0]), TARGETS)
    film = draw_film(rows)
    strip = 24  # of captions that are 224 pixels wide
    # Below, one line: pixels and motion were made alike, but for the norm.
    assert film.shape == (8, strip + 224 + STRIP, 5 * (224 + GAP) - GAP, 3)
    assert film[:, -STRIP:].any()
    for number, row in enumerate(rows.values()):
        left = number * (224 + GAP)
        part = film[:, strip : strip + 224, left : left + 224]
        np.testing.assert_array_equal(
            part, row.frames.repeat(7, 1).repeat(7, 2)
        )


@pytest.mark.parametrize(
    'norm,lines',
    [
        ('clip', ['pixels, motion, predicted (true mean, contrast)']),
        ('none', ['pixels, predicted (true mean, contrast)', 'motion']),
    ],
)
def test_lines_below_the_film(norm, lines):
    targets = dict(
        pixel=PixelTarget(name='pixel'),
        motion=FrameDifferenceTarget(name='motion', norm=norm),
    )
    video = torch.rand(3, 2, 32, 32)
    names = ['input', 'masked', 'pixel_reconstruction', 'motion']
    videos = dict.fromkeys([*names, 'motion_reconstruction'], video)
    rows = reconstruction_rows(videos, targets, 'true')
    film = draw_film(rows)
    width = film.shape[2]
    below = np.vstack(
        [
            *(caption(width, line) for line in lines[:-1]),
            caption(width, lines[-1], rows['motion'].bar),
        ]
    )
    for frame in film:
        np.testing.assert_array_equal(frame[-len(below) :], below)


def test_a_long_clip_shows_eight_frames():
    video = torch.rand(3, 20, 16, 16)
    rows = reconstruction_rows(dict(input=video, masked=video), TARGETS)
    assert list(rows) == ['input', 'masked']
    sheet = draw_sheet(rows)
    # Every third of 20 frames makes 7.
    zoom = 780 // (16 * 8)
    assert sheet.shape[1] == 7 * (16 * zoom + GAP) - GAP
    assert len(draw_film(rows)) == 20


def test_captions_tell_what_was_put_back():
    assert statistics_note('none', 'true') == ''
    true = statistics_note('tubelet', 'true')
    visible = statistics_note('clip', 'visible')
    assert 'true mean' in true and 'visible' in visible
    video = torch.rand(3, 8, 16, 16)
    names = ('input', 'masked', 'pixel_reconstruction')
    videos = dict.fromkeys([*names, 'motion_reconstruction'], video)
    videos['motion'] = torch.full_like(video, 0.25)
    rows = reconstruction_rows(videos, TARGETS, 'visible')
    assert rows['pixel_reconstruction'].caption == (
        'pixels, predicted (mean, contrast of visible)'
    )
    rows = reconstruction_rows(videos, TARGETS, 'true')
    row = rows['motion_reconstruction']
    assert row.caption == 'motion, predicted (true mean, contrast)'
    assert row.scale == 'blue -0.25, black 0, orange +0.25'
    assert row.bar.limit == pytest.approx(0.25)
    plain = row._replace(bar=None)
    assert plain.caption == f'{row.caption}: {row.scale}'


def test_colours_of_signed_values_are_even_and_0_is_neutral():
    colours = diverging_colours()
    lab = cv2.cvtColor(
        colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab
    )[0]
    assert len(set(colours[127].tolist())) == 1  # a grey
    assert np.abs(lab[127, 1:]).max() < 0.1
    # As light at -x as at x; each step of a side as large as the others.
    np.testing.assert_allclose(lab[:127, 0], lab[:127:-1, 0], atol=0.6)
    for side in (lab[:128], lab[127:]):
        steps = np.linalg.norm(side[8:] - side[:-8], axis=1)
        assert steps.min() > 0.85 * steps.mean()
        assert steps.max() < 1.15 * steps.mean()
    least, most = colours[0].astype(int), colours[-1].astype(int)
    assert least[2] > least[0] + 100 and most[0] > most[2] + 100


def test_motion_in_colours():
    colours = diverging_colours()
    motion = torch.tensor([-1.0, -0.25, -0.125, 0.0, 0.125, 0.25, 0.5])
    expected = colours[[0, 0, 63, 127, 191, 254, 254]]
    np.testing.assert_array_equal(draw_signed(motion, 0.25), expected)
    # A target is drawn by the mean of its channels.
    video = torch.zeros(3, 1, 1, 2)
    video[:, 0, 0, 1] = torch.tensor([0.3, 0.1, -0.025])
    drawn = FrameDifferenceTarget(name='motion').draw(video, 0.25)
    np.testing.assert_array_equal(drawn[0, 0], colours[[127, 191]])


def test_the_scale_of_motion():
    motion = torch.zeros(3, 10, 10, 10)
    assert motion_scale(motion) == 0.05
    motion = torch.linspace(-1, 1, 3001).view(1, -1, 1, 1)
    assert motion_scale(motion) == pytest.approx(0.999, abs=1e-3)
    # More values than `torch.quantile` takes.
    assert motion_scale(torch.full((2**24 + 1,), 0.5)) == 0.5


def test_motion_map_and_heat_map():
    motion = torch.randn(2, 3, 4, 5, 6)
    sizes = motion_map(motion)
    for b, t, y, x in np.ndindex(2, 4, 5, 6):
        squares = [float(motion[b, c, t, y, x]) ** 2 for c in range(3)]
        expected = (sum(squares) / 3) ** 0.5
        assert float(sizes[b, t, y, x]) == pytest.approx(expected, rel=1e-5)
    values = torch.tensor([0.0, 0.1, 0.2, 0.5]).view(1, 2, 2)
    colors = heat_map(values, 0.2)
    levels = np.array([[0, 128], [255, 255]], np.uint8)
    bgr = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    np.testing.assert_array_equal(colors[0], bgr[..., ::-1])
    assert colors.dtype == np.uint8
    red, _, blue = colors[0, 1, 0].astype(int)
    assert red > blue + 50  # yellow, so not in OpenCV's order


def test_samples_of_a_data_set(tiny_model):
    """What the demo uses is the same."""
    frames = torch.randint(256, (2, 3, 8, 32, 32), dtype=torch.uint8)
    data = as_batch(frames, tube_mask())
    samples = [
        dict(inputs=x, data_samples=y)
        for x, y in zip(data['inputs'], data['data_samples'], strict=True)
    ]
    model = tiny_model().train()
    videos = reconstruct(model, samples)
    assert not model.training
    expected = reconstruct_batch(model, data).videos
    assert list(videos) == list(expected)
    for name, video in videos.items():
        assert torch.equal(video, expected[name])


def test_unknown_statistics(tiny_model):
    data = as_batch(
        torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8), tube_mask(1)
    )
    with pytest.raises(ValueError, match="'true', 'visible'.*not 'masked'"):
        reconstruct_batch(tiny_model(), data, 'masked')


def test_gif(tmp_path):
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    frames = np.stack([np.full((6, 9, 3), c, np.uint8) for c in colors])
    path = tmp_path / 'new' / 'film.gif'
    write_gif(path, frames, fps=4)
    assert list(path.parent.iterdir()) == [path]
    with Image.open(path) as image:
        assert image.info['loop'] == 0
        assert image.info['duration'] == 250
        for t, frame in enumerate(frames):
            image.seek(t)
            shown = np.asarray(image.convert('RGB'))
            np.testing.assert_array_equal(shown, frame)
