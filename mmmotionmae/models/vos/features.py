# Copyright (c) MotionMAE contributors. All rights reserved.
"""One feature for each patch of each frame, from frozen encoders.

Shapes: N frames, B clips of T frames, h w the patch grid, t slots, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from einops import rearrange
from mmaction.models.backbones.vit_mae import VisionTransformer
from torch import Tensor, nn

from ..utils.linear import linear
from ..utils.transformer import run_blocks
from ..utils.tubelet import Grid, interpolate_positions, token_grid
from ..utils.vit_features import (
    embed_clips,
    fuse_stock_blocks,
    number_of_block,
    trained_grid,
    tubelet_of,
)

# Numbers of the frames wanted, (N, ), to the frames, (N, 3, H, W), normalised.
Video = Callable[[Sequence[int]], Tensor]

TEMPORAL = ('repeat', 'pair', 'window')
FACETS = ('token', 'query', 'key', 'value')


class FrameFeatures(ABC):
    """Features of the frames of a video, one frame after the other."""

    @abstractmethod
    def __call__(self, video: Video, num_frames: int) -> Iterator[Tensor]:
        """Compute the features in the order of the frames.

        Args:
            video: Gives the frames asked for.
            num_frames: How many there are.

        Yields:
            (D, h, w) for each frame, contiguous as (h, w, D).
        """

    @abstractmethod
    def describe(self) -> dict:
        """Description of the features, for the results."""


class MapFeatures(FrameFeatures):
    """The feature map of an image backbone, such as MMAction2's ``ResNet``.

    Args:
        backbone: Maps (N, 3, H, W) to (N, D, h, w), or to several such maps,
            the last of which is taken.
        frames_per_batch: N.
    """

    def __init__(self, backbone: nn.Module, frames_per_batch: int) -> None:
        self.backbone = backbone
        self.frames_per_batch = frames_per_batch

    def __call__(self, video: Video, num_frames: int) -> Iterator[Tensor]:
        """Compute the features, as :class:`FrameFeatures` says."""
        for numbers in _batches(num_frames, self.frames_per_batch):
            maps = self.backbone(video(numbers))
            if isinstance(maps, (tuple, list)):
                maps = maps[-1]
            yield from maps.contiguous(memory_format=torch.channels_last)

    def describe(self) -> dict:
        """Description of the features, for the results."""
        return dict(backbone=type(self.backbone).__name__)


class ViTFeatures(FrameFeatures):
    """Features of a video ViT, which knows tubelets, for single frames.

    Args:
        vit: MMAction2's ``VisionTransformer`` or one derived from it. Its
            blocks get the leaner forward pass of :func:`fuse_blocks`.
        frames_per_batch: Frames (or clips, for ``'window'``) encoded at a
            time.
        temporal: How a frame comes into a tubelet of P frames.
            ``'repeat'``: P times the frame itself, alone in the clip: what
            an image encoder sees.
            ``'pair'``: the frame and the P - 1 before it, alone in the clip:
            motion, seen at the price of a grid that mixes P frames.
            ``'window'``: these tubelets, too, but attending to all of a clip
            of ``num_frames`` frames, those to come among them. P clips, each
            a frame later than the last, give every frame a slot of its own.
            Before the first frame and after the last, these are repeated.
        slot: For ``'repeat'`` and ``'pair'``: whose positions, of the slots
            that the encoder was trained with.
        num_frames: Frames of a clip for ``'window'``. Defaults to as many as
            the encoder was trained with; positions are interpolated in time
            for other numbers, and in space for other sizes of frames.
        block: Whose output. Negative numbers count from the last.
        final_norm: Apply the encoder's last norm to it (``norm``, or
            ``fc_norm`` of an encoder with mean pooling).
        facet: ``'token'``: the output. ``'query'``, ``'key'``, ``'value'``:
            these vectors of all heads of that block's attention, instead.

    Raises:
        ValueError: If an argument is none of these, or the encoder has no
            such block or slot.
    """

    def __init__(
        self,
        vit: VisionTransformer,
        frames_per_batch: int,
        temporal: str = 'repeat',
        slot: int = 0,
        num_frames: int | None = None,
        block: int = -1,
        final_norm: bool = True,
        facet: str = 'token',
    ) -> None:
        self.vit = vit
        self.frames_per_batch = frames_per_batch
        self.temporal = temporal
        self.slot = slot
        self.block = block
        self.final_norm = final_norm
        self.facet = facet
        self.tubelet_size = tubelet_of(vit)[0]
        self.trained_grid = trained_grid(vit)
        self.num_frames = num_frames or self.trained_grid[0] * (
            self.tubelet_size
        )
        self._check()
        fuse_stock_blocks(vit)
        self._positions: tuple[Grid, Tensor] | None = None

    def _check(self) -> None:
        if self.temporal not in TEMPORAL:
            raise ValueError(
                f'temporal must be one of {TEMPORAL}; got {self.temporal!r}.'
            )
        if self.facet not in FACETS:
            raise ValueError(
                f'facet must be one of {FACETS}; got {self.facet!r}.'
            )
        number_of_block(self.vit, self.block)
        if not 0 <= self.slot < self.trained_grid[0]:
            raise ValueError(
                f'The encoder has {self.trained_grid[0]} slots; there is no '
                f'slot {self.slot}.'
            )
        if self.num_frames < 1 or self.num_frames % self.tubelet_size:
            raise ValueError(
                f'num_frames is {self.num_frames}, not a multiple of the '
                f'{self.tubelet_size} frames of a tubelet.'
            )

    def describe(self) -> dict:
        """Description of the features, for the results."""
        description = dict(
            backbone=type(self.vit).__name__,
            temporal=self.temporal,
            block=number_of_block(self.vit, self.block),
            facet=self.facet,
        )
        if self.facet == 'token':
            description['final_norm'] = self.final_norm
        if self.temporal == 'window':
            description['num_frames'] = self.num_frames
        else:
            description['slot'] = self.slot
        return description

    def __call__(self, video: Video, num_frames: int) -> Iterator[Tensor]:
        """Compute the features, as :class:`FrameFeatures` says."""
        self._positions = None  # the encoder may have changed since
        if self.temporal == 'window':
            yield from self._windows(video, num_frames)
            return
        for numbers in _batches(num_frames, self.frames_per_batch):
            if self.temporal == 'repeat':
                clips = video(numbers)[:, :, None].expand(
                    -1, -1, self.tubelet_size, -1, -1
                )
            else:
                clips = _clips(
                    video,
                    [n - self.tubelet_size + 1 for n in numbers],
                    self.tubelet_size,
                    num_frames,
                )
            yield from self._encode(clips)[:, 0]

    def _windows(self, video: Video, num_frames: int) -> Iterator[Tensor]:
        for begin in range(0, num_frames, self.num_frames):
            # Clip number i of these ends each tubelet i frames later than
            # the first does; so their slots alternate.
            starts = [
                begin + i - self.tubelet_size + 1
                for i in range(self.tubelet_size)
            ]
            encoded = [
                clip
                for i in range(0, len(starts), self.frames_per_batch)
                for clip in self._encode(
                    _clips(
                        video,
                        starts[i : i + self.frames_per_batch],
                        self.num_frames,
                        num_frames,
                    )
                )
            ]
            for number in range(min(self.num_frames, num_frames - begin)):
                slot, delay = divmod(number, self.tubelet_size)
                yield encoded[delay][slot]

    def _encode(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, t, D, h, w)."""
        vit = self.vit
        t, h, w = token_grid(
            clips.size(2), clips.size(3), clips.size(4), *tubelet_of(vit)
        )
        x, _ = embed_clips(vit, clips, self._positions_of((t, h, w)))
        last = number_of_block(vit, self.block)
        x = run_blocks(vit.blocks[:last], x, with_cp=False)
        x = self._facet(vit.blocks[last], x)
        return rearrange(x, 'b (t h w) d -> b t d h w', t=t, h=h, w=w)

    def _facet(self, block: Any, x: Tensor) -> Tensor:
        if self.facet == 'token':
            x = block(x)
            return self._norm(x) if self.final_norm else x
        attention = block.attn
        number = FACETS.index(self.facet) - 1
        weight = attention.qkv.weight.chunk(3)[number]
        biases = (
            getattr(attention, 'q_bias', None),
            None,
            getattr(attention, 'v_bias', None),
        )
        return linear(block.norm1(x), weight, biases[number])

    def _norm(self, x: Tensor) -> Tensor:
        pooled = getattr(self.vit, 'fc_norm', None)
        return self.vit.norm(x) if pooled is None else pooled(x)

    def _positions_of(self, grid: Grid) -> Tensor:
        if self._positions is None or self._positions[0] != grid:
            old, table = self.trained_grid, self.vit.pos_embed
            if self.temporal != 'window':
                table = table.unflatten(1, old)[:, self.slot].flatten(1, 2)
                old = (1, *old[1:])
            table = interpolate_positions(table, old, grid)
            self._positions = (grid, table)
        return self._positions[1]


def _batches(number: int, size: int) -> Iterator[range]:
    for begin in range(0, number, size):
        yield range(begin, min(begin + size, number))


def _clips(
    video: Video, starts: Sequence[int], length: int, num_frames: int
) -> Tensor:
    """Clips of consecutive frames; the first and last frame are repeated."""
    numbers = [
        min(max(start + i, 0), num_frames - 1)
        for start in starts
        for i in range(length)
    ]
    return rearrange(video(numbers), '(b t) c h w -> b c t h w', t=length)
