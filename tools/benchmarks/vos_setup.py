# Copyright (c) MotionMAE contributors. All rights reserved.
"""The sequences on which propagation is measured, and our networks for it.

Shapes: T frames, H W size, L = h*w cells of the patch grid, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from mmaction.registry import MODELS
from torch import Tensor

from mmmotionmae.apis import UsageError
from mmmotionmae.datasets.sequences import DAVISDataset, read_mask, write_mask
from mmmotionmae.models import LabelPropagation

from .networks import SIZES

UInt8Array = npt.NDArray[np.uint8]
Size = tuple[int, int]
GENERATED = 'generated'  # name of the sequence
NUM_OBJECTS = 3


@dataclass(frozen=True)
class Setup:
    """What all that are measured have in common.

    Attributes:
        root: A folder in the layout of DAVIS.
        size: Short side of the frames that encoders see.
        arch: Size of the encoder.
        patch_size: Height and width of a patch.
        device: ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.
        num_threads: Threads of PyTorch; None: PyTorch's default.
        dino: Clone of DINO, if there is one.
    """

    root: str
    size: int = 480
    arch: str = 'small'
    patch_size: int = 16
    device: str = 'cpu'
    num_threads: int | None = None
    dino: str | None = None

    @property
    def crw_size(self) -> Size:
        """(H, W) that the encoder sees in CRW's form; 480 gives 480x880."""
        patch = self.patch_size
        height = self.size // patch * patch
        return height, self.size * 11 // 6 // patch * patch

    def dataset(self, size: int | Size) -> DAVISDataset:
        """The sequences.

        Args:
            size: See :class:`LoadSequence`.
        """
        pipeline: list[Any] = [
            dict(type='LoadSequence', size=size),
            dict(type='LoadMasks'),
            dict(type='PackSequence'),
        ]
        return DAVISDataset(pipeline, self.root)

    def model(
        self, backbone: dict[str, Any], **kwargs: Any
    ) -> LabelPropagation:
        """A :class:`LabelPropagation` that normalises as DINO does."""
        std = [255 * value for value in (0.228, 0.224, 0.225)]
        model = MODELS.build(
            dict(
                type='LabelPropagation',
                backbone=backbone,
                data_preprocessor=dict(
                    type='SequenceDataPreprocessor', std=std
                ),
                **kwargs,
            )
        )
        return model.to(self.device).eval()

    def vit_model(self) -> LabelPropagation:
        """One with a ViT of random weights."""
        size = SIZES[self.arch]
        torch.manual_seed(0)
        return self.model(
            dict(
                type='MotionMAEViT',
                img_size=14 * self.patch_size,
                patch_size=self.patch_size,
                embed_dims=size.embed_dims,
                depth=size.depth,
                num_heads=size.num_heads,
            )
        )


def write_generated(root: Path, num_frames: int, height: int) -> None:
    """Write one sequence of shapes that move and change, as in DAVIS.

    Args:
        root: The folder to make.
        num_frames: T.
        height: H; the sides are as those of 480x854.
    """
    rng = np.random.default_rng(0)
    size = height, round(height * 854 / 480)
    masks = draw_masks(num_frames, size)
    textures = [_texture(rng, size) for _ in range(NUM_OBJECTS + 1)]
    for t, mask in enumerate(masks):
        frame = np.zeros((*size, 3), np.uint8)
        for number, texture in enumerate(textures):
            # What is behind moves, too, but slower.
            moved = np.roll(texture, (t, (2 + number) * t), (0, 1))
            frame[mask == number] = moved[mask == number]
        _write_frame(root, GENERATED, t, cv2.imencode('.jpg', frame)[1], mask)


def copy_sequences(
    source: str, names: Sequence[str] | None, root: Path, num_frames: int
) -> None:
    """Copy the first frames of sequences; the official code needs a copy.

    Args:
        source: A folder in the layout of DAVIS.
        names: Sequences. None: all.
        root: The folder to make. Frames are 00000.jpg and so on.
        num_frames: How many, at most.

    Raises:
        UsageError: If there is none of these, a mask is missing, or there
            are fewer than 3 frames.
    """
    try:
        dataset = DAVISDataset([], source, sequences=names)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        frames = info['frame_paths'][:num_frames]
        if len(frames) < 3:
            raise UsageError(f'{info["sequence"]!r} has fewer than 3 frames.')
        for t, frame in enumerate(frames):
            path = info['mask_paths'][t]
            if path is None:
                raise UsageError(
                    f'{frame} has no mask; the official code needs one of '
                    'every frame.'
                )
            mask = read_mask(path, info['binary_masks'])
            content = np.frombuffer(Path(frame).read_bytes(), np.uint8)
            _write_frame(root, info['sequence'], t, content, mask)


def draw_masks(num_frames: int, size: Size) -> UInt8Array:
    """Object ids (T, H, W) of shapes with bays, points and holes.

    Each is a star around a centre that moves: a circle whose radius depends
    on the angle by some sines, which turn. The second is a ring.

    Args:
        num_frames: T.
        size: (H, W).
    """
    rng = np.random.default_rng(0)
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    masks = np.zeros((num_frames, *size), np.uint8)
    for number in range(1, NUM_OBJECTS + 1):
        centre = np.array([0.5, number * width / height / (NUM_OBJECTS + 1)])
        heading = rng.uniform(0, 2 * np.pi)
        step = 0.008 * np.array([np.sin(heading), np.cos(heading)])
        phases = rng.uniform(0, 2 * np.pi, 4)
        for t in range(num_frames):
            # There and back again, within the frame.
            dy, dx = centre + step * (10 - abs(t % 40 - 20))
            angle = np.arctan2(y - dy, x - dx)
            waves = [
                np.sin(k * (angle + 0.05 * t) + phase)
                for k, phase in zip((2, 3, 5, 9), phases, strict=True)
            ]
            radius = 0.17 * (1 + 0.15 * np.sum(waves, 0))
            share = np.hypot(y - dy, x - dx) / radius
            inside = share < 1
            if number == 2:
                inside &= share > 0.4
            masks[t][inside] = number
    return masks


def _texture(rng: np.random.Generator, size: Size) -> UInt8Array:
    """(H, W, 3): noise that is smooth, but not everywhere the same."""
    height, width = size
    noise = rng.normal(0, 12, (*size, 3))
    for cell in (8, 32, 128):
        grid = rng.normal(0, 25, (height // cell + 2, width // cell + 2, 3))
        noise += cv2.resize(grid, (width, height))
    return np.clip(noise + rng.uniform(60, 196, 3), 0, 255).astype(np.uint8)


def _write_frame(
    root: Path, sequence: str, t: int, content: UInt8Array, mask: UInt8Array
) -> None:
    """Write a frame, which is encoded already, and its mask."""
    images = root / 'JPEGImages' / '480p' / sequence
    images.mkdir(parents=True, exist_ok=True)
    (images / f'{t:05d}.jpg').write_bytes(content.tobytes())
    annotations = root / 'Annotations' / '480p' / sequence
    write_mask(annotations / f'{t:05d}.png', mask)


def cells(maps: Tensor) -> Tensor:
    """(D, h, w) to (L, D)."""
    return maps.flatten(1).T.contiguous()
