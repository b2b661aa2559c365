# Copyright (c) MotionMAE contributors. All rights reserved.
"""How far the decoders' colours are from those that the standards define.

The table of docs/notes/videos.md. Expected colours are computed from the
decoded luma and chroma by the formulas of ITU-R BT.601, BT.709 and BT.2020,
with chroma placed as H.264 places it (left; in interlaced frames by fields)
and scaled up by cubic convolution.
"""

import functools
import re
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from conftest import ROOT
from helpers.video_files import encode, picture

from mmmotionmae.datasets.readers import open_video
from mmmotionmae.utils.errors import VideoError

SIZE = (128, 96)
NUM_FRAMES = 3
WEIGHTS = {  # of red and blue in luma
    'bt601': (0.299, 0.114),
    'bt709': (0.2126, 0.0722),
    'bt2020': (0.2627, 0.0593),
}


def tags(primaries, matrix):
    return {
        'x264-params': f'colorprim={primaries}:transfer=bt709:'
        f'colormatrix={matrix}'
    }


BT709 = tags('bt709', 'bt709')
# Pixels, options of x264, standard, whether the range is full.
KINDS = {
    '8 bits, 4:2:0, BT.601': ('yuv420p', {}, 'bt601', False),
    'BT.709': ('yuv420p', BT709, 'bt709', False),
    'BT.2020': ('yuv420p', tags('bt2020', 'bt2020nc'), 'bt2020', False),
    'full range': ('yuvj420p', {}, 'bt601', True),
    '10 bits': ('yuv420p10le', {}, 'bt601', False),
    '10 bits, BT.709': ('yuv420p10le', BT709, 'bt709', False),
    '4:2:2': ('yuv422p', {}, 'bt601', False),
    '4:4:4': ('yuv444p', {}, 'bt601', False),
    'interlaced': ('yuv420p', {'x264-params': 'tff=1'}, 'bt601', False),
}


def scale_up(plane, length, axis, offset):
    """Cubic convolution (Keys, 1981); sample k lies at 2 k + offset."""
    position = (np.arange(length) - offset) / 2
    base = np.floor(position).astype(int)
    rest = (position - base)[:, None]
    plane = np.moveaxis(plane, axis, 0)

    def weight(x):
        near = 1.5 * x**3 - 2.5 * x**2 + 1
        return np.where(x <= 1, near, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)

    total = sum(
        plane[np.clip(base + k, 0, len(plane) - 1)] * weight(np.abs(rest - k))
        for k in (-1, 0, 1, 2)
    )
    return np.moveaxis(total, 0, axis)


def convert(frame, standard, full):
    """The colours of a frame, RGB, float64, by the standard."""
    depth = 10 if '10' in frame.format.name else 8
    planes = []
    for plane in frame.planes:
        kind = np.uint8 if depth == 8 else np.uint16
        rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
        planes.append(rows[:, : plane.width] / 2.0 ** (depth - 8))
    luma, *chroma = planes
    height, width = luma.shape
    for i, plane in enumerate(chroma):
        if plane.shape[1] < width:
            plane = scale_up(plane, width, 1, 0)
        if plane.shape[0] < height and frame.interlaced_frame:
            fields = np.empty((height, width))
            for parity, offset in enumerate((0.25, 0.75)):
                fields[parity::2] = scale_up(
                    plane[parity::2], height // 2, 0, offset
                )
            plane = fields
        elif plane.shape[0] < height:
            plane = scale_up(plane, height, 0, 0.5)
        chroma[i] = plane - 128
    if not full:
        luma = (luma - 16) * (255 / 219)
        chroma = [plane * (255 / 224) for plane in chroma]
    red, blue = WEIGHTS[standard]
    r = luma + 2 * (1 - red) * chroma[1]
    b = luma + 2 * (1 - blue) * chroma[0]
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return np.stack([r, g, b], -1).clip(0, 255)


def fields_in_420(image):
    """The planes of a picture of two fields, each with its own chroma."""
    red, blue = WEIGHTS['bt601']
    r, g, b = np.moveaxis(image.astype(float), -1, 0)
    luma = red * r + (1 - red - blue) * g + blue * b
    planes = [16 + luma * (219 / 255)]
    for colour, share in ((b, blue), (r, red)):
        plane = 128 + (colour - luma) / (2 * (1 - share)) * (224 / 255)
        wide = np.pad(plane, ((0, 0), (1, 1)), 'edge')
        plane = (wide[:, :-2:2] + 2 * wide[:, 1:-1:2] + wide[:, 2::2]) / 4
        half = np.empty((plane.shape[0] // 2, plane.shape[1]))
        for parity, first in ((0, 0.75), (1, 0.25)):
            lines = plane[parity::2]
            half[parity::2] = first * lines[::2] + (1 - first) * lines[1::2]
        planes.append(half)
    return np.concatenate([p.round().astype(np.uint8).ravel() for p in planes])


def write_interlaced(path, options):
    """A scene of which even and odd lines are of different times."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(
            'libx264',
            rate=25,
            width=SIZE[0],
            height=SIZE[1],
            pix_fmt='yuv420p',
            options={'threads': '1', 'qp': '1', **options},
        )
        for t in range(NUM_FRAMES):
            image = picture(4 * t, SIZE)
            image[1::2] = picture(4 * t + 2, SIZE)[1::2]
            frame = av.VideoFrame.from_ndarray(
                fields_in_420(image).reshape(-1, SIZE[0]), 'yuv420p'
            )
            frame.pts, frame.time_base = t, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@functools.cache
def rows_of_the_docs():
    text = (ROOT / 'docs/notes/videos.md').read_text(encoding='utf-8')
    rows = re.findall(
        r'^\| ([^|]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| '
        r'([\d.]+|refused) \|$',
        text,
        re.MULTILINE,
    )
    new = tuple(map(int, cv2.__version__.split('.')[:2])) >= (4, 13)
    return {
        name: dict(pyav=pyav, decord=decord, opencv=late if new else early)
        for name, pyav, decord, early, late in rows
    }


def test_the_docs_have_every_kind():
    assert set(rows_of_the_docs()) == set(KINDS)


@pytest.mark.parametrize('kind', KINDS)
def test_colours(tmp_path, kind):
    pixels, options, standard, full = KINDS[kind]
    path = tmp_path / 'video.mp4'
    if kind == 'interlaced':
        write_interlaced(path, options)
    else:
        encode(
            path,
            pix_fmt=pixels,
            num_frames=NUM_FRAMES,
            size=SIZE,
            **{'qp': '4', **options},
        )
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert all(f.interlaced_frame == (kind == 'interlaced') for f in frames)
    expected = [convert(frame, standard, full) for frame in frames]
    for decoder, off in rows_of_the_docs()[kind].items():
        if off == 'refused':
            with pytest.raises(VideoError, match='convert its'):
                open_video(str(path), decoder)
            continue
        with open_video(str(path), decoder) as video:
            read = list(video.frames(range(NUM_FRAMES)))
        found = np.abs(np.array(read) - expected).mean()
        assert found == pytest.approx(float(off), abs=0.25), decoder


def test_the_formulas_give_back_the_scene(tmp_path):
    """Where chroma is that of fields, and where it is not halved."""
    path = tmp_path / 'video.mp4'
    write_interlaced(path, {'x264-params': 'tff=1'})
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    scene = picture(0, SIZE)
    scene[1::2] = picture(2, SIZE)[1::2]
    assert np.abs(convert(frame, 'bt601', False) - scene).mean() < 0.8
    encode(path, 'libx264', 'yuv444p', 1, SIZE, qp='1')
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    off = np.abs(convert(frame, 'bt601', False) - picture(0, SIZE))
    assert off.mean() < 0.8
