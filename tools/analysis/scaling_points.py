# Copyright (c) MotionMAE contributors. All rights reserved.
"""Sizes of clips at which the cost of a step is measured."""

from dataclasses import dataclass, replace

from model_configs import pretraining_flops_of
from model_flops import Flops
from model_setup import Setup

MODEL = 'shared'  # of `model_configs.OURS`


@dataclass(frozen=True)
class Point:
    """A size of clips.

    Attributes:
        num_frames: Frames of a clip.
        img_size: Height and width of a frame, in pixels.
    """

    num_frames: int
    img_size: int

    def __str__(self) -> str:
        return f'{self.num_frames}x{self.img_size}'

    def of(self, setup: Setup) -> Setup:
        """A setup at this point."""
        return replace(
            setup, num_frames=self.num_frames, img_size=self.img_size
        )

    def tokens(self, setup: Setup) -> tuple[int, int]:
        """L, and how many of them tube masking leaves visible.

        Raises:
            ValueError: If clips do not divide evenly into tubelets.
        """
        return self.of(setup).tokens

    def flops(self, setup: Setup) -> Flops:
        """FLOPs of a clip."""
        return pretraining_flops_of(MODEL, self.of(setup))

    def step_flops(self, setup: Setup) -> int:
        """FLOPs of a training step."""
        return setup.batch_size * self.flops(setup).training


@dataclass(frozen=True)
class Case:
    """What is measured: a size of clips, with or without checkpointing."""

    point: Point
    with_cp: bool = False

    def __str__(self) -> str:
        return f'{self.point}{", with_cp" if self.with_cp else ""}'
