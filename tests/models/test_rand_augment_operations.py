# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
import torch
from mmengine.utils import digit_version
from PIL import Image, ImageEnhance, ImageOps

from mmmotionmae.models.data_preprocessors import (
    rand_augment_operations as ops,
)

kornia = pytest.importorskip('kornia')

HEIGHT, WIDTH, FILL = 41, 52, 128


@pytest.fixture
def frames():
    """Noise, noise of few levels, waves, and a frame of one level."""
    x, y = torch.arange(WIDTH), torch.arange(HEIGHT)[:, None]
    frames = torch.randint(256, (4, 3, HEIGHT, WIDTH))
    frames[1] = frames[1] // 3 + 60
    frames[2] = 127 + 60 * torch.sin(x / 6) + 60 * torch.cos(y / 5)
    frames[3] = torch.tensor([0, 77, 255])[:, None, None]
    # Channels last in memory, as the pipelines give them.
    return frames.to(torch.uint8, memory_format=torch.channels_last)


def transform(*matrix):
    """What timm does: `Image.transform` with a fill colour."""
    return lambda image: image.transform(
        image.size,
        Image.AFFINE,
        matrix,
        resample=Image.BICUBIC,
        fillcolor=(FILL,) * 3,
    )


def rotate(degrees):
    return lambda image: image.rotate(
        degrees, resample=Image.BICUBIC, fillcolor=(FILL,) * 3
    )


def solarize_add(addition):
    table = [min(255, i + addition) if i < 128 else i for i in range(256)]
    return lambda image: image.point(table * 3)


EXACT = [
    ('auto_contrast', (), ImageOps.autocontrast),
    ('equalize', (), ImageOps.equalize),
    ('invert', (), ImageOps.invert),
]
EXACT += [
    ('posterize', (n,), lambda image, n=n: ImageOps.posterize(image, n))
    for n in (1, 2, 3, 4, 8)
]
EXACT += [
    ('solarize', (n,), lambda image, n=n: ImageOps.solarize(image, n))
    for n in (0, 1, 77, 128, 255, 256)
]
EXACT += [('solarize_add', (n,), solarize_add(n)) for n in (0, 77, 110, 200)]
EXACT += [
    (
        'brightness',
        (f,),
        lambda image, f=f: ImageEnhance.Brightness(image).enhance(f),
    )
    for f in (0.1, 0.37, 1, 1.63, 1.9)
]
TO_ONE_LEVEL = [
    (name, (f,), lambda image, f=f, cls=cls: cls(image).enhance(f))
    for name, cls in (
        ('contrast', ImageEnhance.Contrast),
        ('color', ImageEnhance.Color),
        ('sharpness', ImageEnhance.Sharpness),
    )
    for f in (0.1, 0.37, 1, 1.63, 1.9)
]
GEOMETRIC = [
    case
    for f in (-0.3, -0.1234567, 0, 0.21, 0.45)
    for case in (
        ('shear_x', (f, FILL), transform(1, f, 0, 0, 1, 0)),
        ('shear_y', (f, FILL), transform(1, 0, 0, f, 1, 0)),
        ('translate_x', (f, FILL), transform(1, 0, f * WIDTH, 0, 1, 0)),
        ('translate_y', (f, FILL), transform(1, 0, 0, 0, 1, f * HEIGHT)),
        ('rotate', (f * 66, FILL), rotate(f * 66)),
    )
]
ALL = EXACT + TO_ONE_LEVEL + GEOMETRIC


def difference(frames, case):
    """Absolute difference from PIL, in levels."""
    name, arguments, pil_function = case
    expected = []
    for frame in frames:
        image = Image.fromarray(frame.permute(1, 2, 0).numpy())
        expected.append(np.asarray(pil_function(image)))
    result = getattr(ops, name)(frames, *arguments)
    assert result.dtype == torch.uint8 and result.shape == frames.shape
    expected = torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2)
    return (result.int() - expected.int()).abs()


def ids(case):
    return f'{case[0]}{case[1]}'


@pytest.mark.parametrize('case', EXACT, ids=ids)
def test_equals_pil(frames, case):
    assert difference(frames, case).max() == 0


@pytest.mark.parametrize('case', TO_ONE_LEVEL, ids=ids)
def test_equals_pil_to_one_level(frames, case):
    """PIL rounds the grey or smoothed frame before it blends."""
    assert difference(frames, case).max() <= 1


@pytest.mark.parametrize('case', GEOMETRIC, ids=ids)
def test_geometry_equals_pil_also_at_the_border(frames, case):
    """PIL computes in double precision and truncates."""
    levels = difference(frames, case)
    assert levels.max() <= 1
    assert (levels > 0).float().mean() < 0.02


def test_posterize_to_no_bits_is_black(frames):
    assert ops.posterize(frames, 0).max() == 0


@pytest.mark.parametrize('case', ALL[:: len(ALL) // 12], ids=ids)
def test_frames_are_not_changed_in_place(frames, case):
    before = frames.clone()
    getattr(ops, case[0])(frames, *case[1])
    assert torch.equal(frames, before)


@pytest.mark.skipif(
    digit_version(kornia.__version__) < digit_version('0.9.0'),
    reason='kornia 0.8 reads values back',
)
@pytest.mark.parametrize('case', {c[0]: c for c in ALL}.values(), ids=ids)
def test_nothing_is_read_back_to_the_host(case):
    """On the meta device there is nothing to read, and only it will do."""
    name, arguments, _ = case
    frames = torch.empty((2, 3, 8, 10), dtype=torch.uint8, device='meta')
    result = getattr(ops, name)(frames, *arguments)
    assert result.is_meta and result.shape == frames.shape
