# Copyright (c) MotionMAE contributors. All rights reserved.
import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from ..utils.precision import full_precision
from . import rand_augment_operations as ops

_MAX_MAGNITUDE = 10


class _Operation(NamedTuple):
    apply: Callable[..., torch.Tensor]
    # From strength, in [0, 1], and sign, -1 or 1, to the argument, if any.
    argument: Callable[[float, int], float] | None = None
    fills: bool = False


def _factor(strength: float, sign: int) -> float:
    return 1 + sign * 0.9 * strength


# RandAugment's, with the «increasing» arguments of timm: the further from
# strength 0, the stronger.
_OPERATIONS = dict(
    AutoContrast=_Operation(ops.auto_contrast),
    Equalize=_Operation(ops.equalize),
    Invert=_Operation(ops.invert),
    Rotate=_Operation(ops.rotate, lambda s, sign: sign * 30 * s, True),
    Posterize=_Operation(ops.posterize, lambda s, _: 4 - int(s * 4)),
    Solarize=_Operation(ops.solarize, lambda s, _: 256 - int(s * 256)),
    SolarizeAdd=_Operation(ops.solarize_add, lambda s, _: int(s * 110)),
    Color=_Operation(ops.color, _factor),
    Contrast=_Operation(ops.contrast, _factor),
    Brightness=_Operation(ops.brightness, _factor),
    Sharpness=_Operation(ops.sharpness, _factor),
    ShearX=_Operation(ops.shear_x, lambda s, sign: sign * 0.3 * s, True),
    ShearY=_Operation(ops.shear_y, lambda s, sign: sign * 0.3 * s, True),
    TranslateX=_Operation(
        ops.translate_x, lambda s, sign: sign * 0.45 * s, True
    ),
    TranslateY=_Operation(
        ops.translate_y, lambda s, sign: sign * 0.45 * s, True
    ),
)


class RandAugment:
    """RandAugment of clips: one draw for all frames of a clip.

    The defaults are VideoMAE's, ``rand-m7-n4-mstd0.5-inc1`` in timm's terms,
    its bicubic interpolation and grey fill colour included. Each operation is
    drawn with replacement from 15 and then carried out with probability
    ``prob``.

    It needs kornia. Draws are made on the CPU with torch's default
    generator.

    Source: `RandAugment <https://arxiv.org/abs/1909.13719>`_; arguments and
    magnitude noise as in timm's ``auto_augment.py`` and VideoMAE's
    ``rand_augment.py``.

    Args:
        num_ops (int): Operations drawn for each clip. Defaults to 4.
        magnitude (float): Mean strength, in [0, 10]. Defaults to 7.
        magnitude_std (float): Standard deviation of the strength, which is
            drawn anew for each operation. Defaults to 0.5.
        prob (float): Probability of each operation drawn. Defaults to 0.5.
        fill (int): Level of what is moved in from outside. Defaults to 128.

    Raises:
        ImportError: If kornia is missing.
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        num_ops: int = 4,
        magnitude: float = 7,
        magnitude_std: float = 0.5,
        prob: float = 0.5,
        fill: int = 128,
    ) -> None:
        if num_ops < 1:
            raise ValueError(
                f'num_ops must be 1 or more, not {num_ops}; '
                'rand_augment=None switches RandAugment off.'
            )
        _check_range('magnitude', magnitude, _MAX_MAGNITUDE)
        _check_range('magnitude_std', magnitude_std, math.inf)
        _check_range('prob', prob, 1)
        _check_range('fill', fill, 255)
        ops.enhance()  # better missed now than in the first step
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.magnitude_std = magnitude_std
        self.prob = prob
        self.fill = fill

    def draw(self) -> list[tuple[str, float | None]]:
        """Draw what is to be done to one clip.

        Returns:
            Names and arguments of the operations to carry out: at most
            ``num_ops``, in order.
        """
        names = list(_OPERATIONS)
        indices = torch.randint(len(names), (self.num_ops,))
        carried_out = torch.rand(self.num_ops) < self.prob
        noise = torch.randn(self.num_ops) * self.magnitude_std
        magnitudes = (self.magnitude + noise).clamp(0, _MAX_MAGNITUDE)
        signs = torch.randint(2, (self.num_ops,)) * 2 - 1
        drawn: list[tuple[str, float | None]] = []
        for i in carried_out.nonzero().flatten().tolist():
            name = names[int(indices[i])]
            strength = float(magnitudes[i]) / _MAX_MAGNITUDE
            argument = _OPERATIONS[name].argument
            drawn.append(
                (name, argument and argument(strength, int(signs[i])))
            )
        return drawn

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        """Augment one clip.

        Args:
            clip: uint8 (C, T, H, W) on any device, RGB or grey.

        Returns:
            uint8 (C, T, H, W).

        Raises:
            TypeError: If the clip is not uint8.
        """
        if clip.dtype != torch.uint8:
            raise TypeError(
                f'Frames must be uint8, not {clip.dtype}: leave '
                'normalisation out of the pipeline, it is done afterwards.'
            )
        frames = clip.transpose(0, 1)
        # MMEngine calls data preprocessors inside mixed precision, in which
        # whole levels would be lost.
        with full_precision(clip):
            for name, argument in self.draw():
                operation = _OPERATIONS[name]
                arguments = [] if argument is None else [argument]
                if operation.fills:
                    arguments.append(self.fill)
                frames = operation.apply(frames, *arguments)
        return frames.transpose(0, 1)


class RandomErasing:
    """Put noise into a rectangle, the same one in all frames of a clip.

    The noise is normal, of mean 0 and standard deviation 1, anew for every
    pixel; so clips should be normalised. It is drawn on the clip's device,
    the rectangle on the CPU. The defaults are VideoMAE's.

    Source: `Random Erasing <https://arxiv.org/abs/1708.04896>`_; the draws
    are those of ``_erase_cube`` in VideoMAE's ``random_erasing.py``. kornia's
    ``RandomErasing`` clips rectangles that do not fit, where these are drawn
    again, and fills with one value.

    Args:
        prob (float): Probability that a clip is changed. Defaults to 0.25.
        area_range (tuple): Smallest and largest area, as part of the frame.
            Defaults to (0.02, 1/3).
        aspect_range (tuple): Smallest and largest height over width, uniform
            on a logarithmic scale. Defaults to (0.3, 1/0.3).

    Raises:
        ValueError: If an argument is out of its range.
    """

    _max_tries = 100

    def __init__(
        self,
        prob: float = 0.25,
        area_range: tuple[float, float] = (0.02, 1 / 3),
        aspect_range: tuple[float, float] = (0.3, 1 / 0.3),
    ) -> None:
        _check_range('prob', prob, 1)
        for name, (low, high), limit in (
            ('area_range', area_range, 1),
            ('aspect_range', aspect_range, math.inf),
        ):
            if not 0 < low <= high <= limit:
                raise ValueError(
                    f'{name} must be two ascending numbers above 0 and up '
                    f'to {limit}, not ({low}, {high}).'
                )
        self.prob = prob
        self.area_range = area_range
        self.aspect_range = aspect_range

    def draw(
        self, height: int, width: int
    ) -> tuple[int, int, int, int] | None:
        """Draw a rectangle in a frame of ``height`` by ``width`` pixels.

        Returns:
            Top, left, height and width, or None if nothing is to be erased.
        """
        if torch.rand(()) >= self.prob:
            return None
        low, high = (math.log(aspect) for aspect in self.aspect_range)
        for _ in range(self._max_tries):
            area = _uniform(*self.area_range) * height * width
            aspect = math.exp(_uniform(low, high))
            h = round(math.sqrt(area * aspect))
            w = round(math.sqrt(area / aspect))
            if h < height and w < width:
                top = int(torch.randint(height - h + 1, ()))
                left = int(torch.randint(width - w + 1, ()))
                return top, left, h, w
        return None

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        """Change one clip in place.

        Args:
            clip: float (C, T, H, W), normalised.

        Returns:
            ``clip``.
        """
        rectangle = self.draw(*clip.shape[-2:])
        if rectangle is not None:
            top, left, h, w = rectangle
            clip[..., top : top + h, left : left + w].normal_()
        return clip


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _check_range(name: str, value: float, high: float) -> None:
    if not 0 <= value <= high:
        raise ValueError(f'{name} must be in [0, {high}], not {value}.')
