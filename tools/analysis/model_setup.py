# Copyright (c) MotionMAE contributors. All rights reserved.
"""What networks that are measured have in common, and their input.

Shapes: B clips, T frames, H W size, L tokens, V of them visible.
"""

from dataclasses import dataclass
from typing import Any

import torch
from mmaction.structures import ActionDataSample
from model_sizes import Size
from torch import Tensor

from mmmotionmae.models.utils.tubelet import Grid, token_grid

NUM_CLASSES = 174  # as in Something-Something V2


@dataclass(frozen=True)
class Setup:
    """What all that are measured have in common.

    Attributes:
        size: Sizes of the networks.
        batch_size: Clips B of a step.
        num_frames: Frames T of a clip.
        img_size: Height and width of a frame, in pixels.
        device: ``'cpu'`` or ``'cuda'``.
        num_threads: Threads of PyTorch; None: PyTorch's default.
        mask_ratio: Share of the places of a frame that are masked.
        checkout: Folder of the official VideoMAE code, if there is one.
        hf_attention: Attention of transformers, ``'sdpa'`` or ``'eager'``.
    """

    size: Size
    batch_size: int = 2
    num_frames: int = 16
    img_size: int = 224
    device: str = 'cpu'
    num_threads: int | None = None
    mask_ratio: float = 0.9
    checkout: str | None = None
    hf_attention: str = 'sdpa'

    @property
    def grid(self) -> Grid:
        """(t, h, w): slots, rows and columns of tokens."""
        return token_grid(
            self.num_frames,
            self.img_size,
            self.img_size,
            self.size.tubelet_size,
            self.size.patch_size,
        )

    @property
    def num_masked(self) -> int:
        """Masked places of a frame; rounded down, as VideoMAE does."""
        _, rows, columns = self.grid
        return int(self.mask_ratio * rows * columns)

    @property
    def tokens(self) -> tuple[int, int]:
        """L and V."""
        slots, rows, columns = self.grid
        places = rows * columns
        return slots * places, slots * (places - self.num_masked)


@dataclass(frozen=True)
class Batch:
    """The input of one round.

    Attributes:
        frames: (B, 3, T, H, W), uint8, on the device.
        mask: (B, L), bool, True = masked; on the device.
        samples: One for each clip, with its mask and a label; on the host, as
            a loader leaves them.
    """

    frames: Tensor
    mask: Tensor
    samples: list[ActionDataSample]

    @property
    def data(self) -> dict[str, Any]:
        """The same as a data loader of MMAction2 gives it."""
        inputs = [clip[None] for clip in self.frames]
        return dict(inputs=inputs, data_samples=self.samples)


def draw_batch(setup: Setup, seed: int) -> Batch:
    """Random frames, tube masks and labels; the same for the same seed."""
    random = torch.Generator().manual_seed(seed)
    side, clips = setup.img_size, setup.batch_size
    frames = torch.randint(
        256,
        (clips, 3, setup.num_frames, side, side),
        dtype=torch.uint8,
        generator=random,
    )
    slots, rows, columns = setup.grid
    order = torch.rand(clips, rows * columns, generator=random).argsort(dim=1)
    mask = (order < setup.num_masked).repeat(1, slots)  # alike in all slots
    labels = torch.randint(NUM_CLASSES, (clips, 1), generator=random)
    samples = []
    for row, label in zip(mask, labels, strict=True):
        sample = ActionDataSample().set_gt_label(label)
        sample.set_field(row[None], 'mask')
        samples.append(sample)
    return Batch(frames.to(setup.device), mask.to(setup.device), samples)
