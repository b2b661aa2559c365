# Copyright (c) MotionMAE contributors. All rights reserved.
import collections
import math
import sys

import pytest
import torch

from mmmotionmae.models.data_preprocessors import (
    rand_augment_operations as ops,
)
from mmmotionmae.models.data_preprocessors.video_augmentation import (
    RandAugment,
    RandomErasing,
)

# The functions and their arguments that VideoMAE's rand_augment.py gives at
# magnitudes 7 and 10, worked out by hand.
AT_7 = dict(
    AutoContrast={None},
    Equalize={None},
    Invert={None},
    Rotate={-21, 21},
    Posterize={2},
    Solarize={77},
    SolarizeAdd={77},
    Color={0.37, 1.63},
    Contrast={0.37, 1.63},
    Brightness={0.37, 1.63},
    Sharpness={0.37, 1.63},
    ShearX={-0.21, 0.21},
    ShearY={-0.21, 0.21},
    TranslateX={-0.315, 0.315},
    TranslateY={-0.315, 0.315},
)
AT_10 = dict(
    AT_7,
    Rotate={-30, 30},
    Posterize={0},
    Solarize={0},
    SolarizeAdd={110},
    Color={0.1, 1.9},
    Contrast={0.1, 1.9},
    Brightness={0.1, 1.9},
    Sharpness={0.1, 1.9},
    ShearX={-0.3, 0.3},
    ShearY={-0.3, 0.3},
    TranslateX={-0.45, 0.45},
    TranslateY={-0.45, 0.45},
)
FUNCTIONS = dict(
    AutoContrast=ops.auto_contrast,
    Equalize=ops.equalize,
    Invert=ops.invert,
    Rotate=ops.rotate,
    Posterize=ops.posterize,
    Solarize=ops.solarize,
    SolarizeAdd=ops.solarize_add,
    Color=ops.color,
    Contrast=ops.contrast,
    Brightness=ops.brightness,
    Sharpness=ops.sharpness,
    ShearX=ops.shear_x,
    ShearY=ops.shear_y,
    TranslateX=ops.translate_x,
    TranslateY=ops.translate_y,
)


@pytest.fixture(autouse=True)
def _needs_kornia():
    pytest.importorskip('kornia')


def random_clip(shape=(3, 4, 24, 32)):
    return torch.randint(256, shape, dtype=torch.uint8)


@pytest.mark.parametrize('magnitude, expected', [(7, AT_7), (10, AT_10)])
def test_operations_and_their_arguments(magnitude, expected):
    augment = RandAugment(
        num_ops=3000, magnitude=magnitude, magnitude_std=0, prob=1
    )
    drawn = augment.draw()
    # 200 of each, +- 14.
    counts = collections.Counter(name for name, _ in drawn)
    assert counts.keys() == expected.keys()
    assert all(abs(count - 200) < 70 for count in counts.values())
    arguments = collections.defaultdict(collections.Counter)
    for name, argument in drawn:
        if argument is not None:
            argument = round(argument, 5)
        arguments[name][argument] += 1
    for name, values in expected.items():
        assert arguments[name].keys() == values, name
        # Both signs come equally often.
        shares = [n / counts[name] for n in arguments[name].values()]
        assert shares == pytest.approx(
            [1 / len(values)] * len(values), abs=0.2
        )


def test_operations_are_drawn_with_replacement():
    augment = RandAugment(num_ops=2, prob=1)
    pairs = [[name for name, _ in augment.draw()] for _ in range(3000)]
    repeated = sum(first == second for first, second in pairs)
    assert repeated / 3000 == pytest.approx(1 / 15, abs=0.02)


def test_each_operation_is_carried_out_with_its_probability():
    counts = [len(RandAugment().draw()) for _ in range(2000)]
    shares = torch.bincount(torch.tensor(counts), minlength=5) / 2000
    binomial = torch.tensor([1, 4, 6, 4, 1]) / 16
    torch.testing.assert_close(shares, binomial, atol=0.05, rtol=0)
    assert RandAugment(prob=0).draw() == []
    assert len(RandAugment(num_ops=9, prob=1).draw()) == 9


@pytest.mark.parametrize(
    'magnitude, std, mean_, std_',
    [
        (7, 0.5, 7, 0.5),
        # Half of a normal distribution: mean sd / sqrt(2 pi) off the limit.
        (10, 2, 10 - 2 / math.sqrt(2 * math.pi), None),
        (0, 2, 2 / math.sqrt(2 * math.pi), None),
    ],
)
def test_magnitudes_are_normal_and_limited(magnitude, std, mean_, std_):
    augment = RandAugment(
        num_ops=20000, magnitude=magnitude, magnitude_std=std, prob=1
    )
    drawn = augment.draw()
    angles = [abs(value) for name, value in drawn if name == 'Rotate']
    magnitudes = torch.tensor(angles) / 3
    assert magnitudes.mean().item() == pytest.approx(mean_, abs=0.15)
    if std_ is not None:
        assert magnitudes.std().item() == pytest.approx(std_, abs=0.05)
    assert magnitudes.min() >= 0 and magnitudes.max() <= 10


def test_what_is_drawn_is_done_in_order():
    augment = RandAugment(num_ops=6, prob=1, fill=9)
    clip = random_clip()
    for seed in range(10):
        torch.manual_seed(seed)
        drawn = augment.draw()
        expected = clip.transpose(0, 1)
        for name, argument in drawn:
            arguments = [] if argument is None else [argument]
            if name[:5] in ('Rotat', 'Shear', 'Trans'):
                arguments.append(9)
            expected = FUNCTIONS[name](expected, *arguments)
        torch.manual_seed(seed)
        result = augment(clip)
        assert result.dtype == torch.uint8 and result.shape == clip.shape
        assert torch.equal(result, expected.transpose(0, 1))
        assert not torch.equal(result, clip)


def test_all_frames_of_a_clip_are_augmented_alike():
    still = random_clip((3, 1, 24, 32)).expand(-1, 5, -1, -1)
    before = still.clone()
    results = []
    for _ in range(8):
        clip = RandAugment(prob=1)(still)
        assert torch.equal(clip, clip[:, :1].expand_as(clip))
        results.append(clip)
    for a, b in zip(results, results[1:], strict=False):
        assert not torch.equal(a, b)
    assert torch.equal(still, before)


def test_without_an_operation_the_clip_stays():
    clip = random_clip()
    assert torch.equal(RandAugment(prob=0)(clip), clip)


def test_mixed_precision_changes_nothing():
    clip, augment = random_clip(), RandAugment(num_ops=12, prob=1)
    for seed in range(6):
        torch.manual_seed(seed)
        expected = augment(clip)
        torch.manual_seed(seed)
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(augment(clip), expected)


def test_kornia_is_asked_for_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'kornia', None)
    with pytest.raises(ImportError, match='needs kornia.*pip install kornia'):
        RandAugment()


def test_errors_of_rand_augment():
    with pytest.raises(TypeError, match='must be uint8, not torch.float32'):
        RandAugment()(random_clip().float())
    with pytest.raises(ValueError, match='num_ops must be 1 or more, not 0'):
        RandAugment(num_ops=0)
    for name, value in dict(
        magnitude=11, magnitude_std=-1, prob=1.5, fill=256
    ).items():
        with pytest.raises(ValueError, match=f'{name} must be in .* {value}'):
            RandAugment(**{name: value})


def test_rectangles_follow_their_distribution():
    """At 1000 x 1000 pixels rounding does not matter."""
    size = 1000
    rectangles = [RandomErasing().draw(size, size) for _ in range(12000)]
    drawn = [r for r in rectangles if r is not None]
    assert len(drawn) / 12000 == pytest.approx(0.25, abs=0.02)
    top, left, h, w = torch.tensor(drawn).double().T
    assert min(top.min(), left.min()) >= 0
    assert (top + h).max() <= size and (left + w).max() <= size
    # Place: uniform over all that fit.
    for start, length in ((top, h), (left, w)):
        places = start / (size - length)
        assert places.mean().item() == pytest.approx(1 / 2, abs=0.03)
        assert places.var().item() == pytest.approx(1 / 12, abs=0.01)
    # Area and logarithm of the aspect: uniform, as every rectangle up to
    # 1/3 and 1/0.3 (1054 pixels) fits but the very longest.
    area, log_aspect = h * w / size**2, (h / w).log()
    assert 0.0195 < area.min() and area.max() < 0.3345
    assert area.mean().item() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.01)
    limit = -math.log(0.3)
    assert log_aspect.abs().max() <= limit + 0.02
    assert log_aspect.mean().item() == pytest.approx(0, abs=0.06)
    assert log_aspect.var().item() == pytest.approx(limit**2 / 3, abs=0.06)


def test_a_rectangle_of_noise_in_all_frames():
    clip = torch.full((3, 16, 40, 60), 9.0)
    torch.manual_seed(3)
    top, left, h, w = RandomErasing(prob=1).draw(40, 60)
    torch.manual_seed(3)
    erased = RandomErasing(prob=1)(clip)
    assert erased is clip
    inside = torch.zeros(40, 60, dtype=torch.bool)
    inside[top : top + h, left : left + w] = True
    assert (clip[..., ~inside] == 9).all()
    noise = clip[..., inside]
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    # Each pixel of each channel and frame has its own.
    assert noise.unique().numel() > 0.99 * noise.numel()


def test_other_ranges_of_rectangles():
    erasing = RandomErasing(
        prob=1, area_range=(0.25, 0.25), aspect_range=(4, 4)
    )
    for _ in range(20):
        top, left, h, w = erasing.draw(80, 60)
        # sqrt(80 * 60 / 4 * 4) = 69.3 high, a quarter of that wide.
        assert (h, w) == (69, 17)
        assert 0 <= top <= 80 - 69 and 0 <= left <= 60 - 17
    assert erasing.draw(60, 80) is None  # 69 rows do not fit
    assert RandomErasing(prob=0).draw(80, 60) is None


def test_errors_of_random_erasing():
    with pytest.raises(ValueError, match=r'prob must be in \[0, 1\], not 2'):
        RandomErasing(prob=2)
    for area in ((0, 0.5), (0.5, 0.2), (0.5, 1.1)):
        with pytest.raises(ValueError, match='area_range must be two asc'):
            RandomErasing(area_range=area)
    with pytest.raises(ValueError, match=r'aspect_range .* not \(0, 1\)'):
        RandomErasing(aspect_range=(0, 1))
