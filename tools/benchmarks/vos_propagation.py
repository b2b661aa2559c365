# Copyright (c) MotionMAE contributors. All rights reserved.
"""Propagation alone, with features given: ours beside DINO's and CropMAE's.

Shapes: N frames, L = h*w cells of the patch grid, D width, C labels, H W size.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from torch import Tensor

from mmmotionmae.models import LabelPropagation
from mmmotionmae.models.vos.affinity import Frame
from mmmotionmae.models.vos.features import FrameFeatures, Video

from .clones.cropmae import CropMAE
from .clones.dino import Dino
from .common import Clock, synchronize
from .vos_setup import Setup, cells
from .vos_tasks import OURS, Step, Task

ROOT = Path(__file__).parents[2]
CRW_CONFIG = ROOT / 'configs' / '_base_' / 'vos' / 'davis2017_siammae.py'


class _Given(FrameFeatures):
    """Features that are known already; they take no time."""

    def __init__(self, maps: Sequence[Tensor]) -> None:
        self.maps = maps

    def __call__(self, video: Video, num_frames: int) -> Iterator[Tensor]:
        yield from self.maps[:num_frames]

    def describe(self) -> dict:
        return {}


@dataclass
class _Sequence:
    """A sequence with features."""

    video: Tensor
    sample: ActionDataSample
    maps: list[Tensor]  # (D, h, w)

    @property
    def grid(self) -> tuple[int, int]:
        h, w = self.maps[0].shape[1:]
        return h, w

    def masks_of(self, model: LabelPropagation) -> np.ndarray:
        """Our masks, (N, H, W)."""
        model.features = _Given(self.maps)
        return model.predict([self.video], [self.sample])[0].pred_masks

    def labels_of(self, model: LabelPropagation) -> Tensor:
        """Labels of the first frame, (C, h, w)."""
        labels, _ = model.codec.encode(self.sample, self.grid)
        return labels.to(self.maps[0])


@torch.no_grad()
def _with_features(
    setup: Setup, size: int | tuple[int, int]
) -> list[_Sequence]:
    """Sequences with features of a random ViT."""
    model = setup.vit_model()
    dataset = setup.dataset(size)
    found = []
    for index in range(len(dataset)):
        data = dataset[index]
        video = data['inputs'].to(setup.device)

        def frames(numbers: Sequence[int], video: Tensor = video) -> Tensor:
            return model.data_preprocessor.normalize(video[list(numbers)])

        maps = list(model.features(frames, len(video)))
        found.append(_Sequence(video, data['data_samples'], maps))
    return found


def agreement(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict:
    """How many pixels are equal, but for first frames, which are given."""
    frames = [
        (theirs[1:] == ours[1:]).mean((1, 2)).tolist()
        for theirs, ours in pairs
    ]
    every = [share for sequence in frames for share in sequence]
    return dict(
        equal_pixels=float(np.mean(every)),
        least_in_a_frame=min(every),
        compared_frames=len(every),
    )


def dino_propagation(
    setup: Setup, dino: Dino | None, clock: Clock = time.perf_counter
) -> Task:
    """Propagation in DINO's form, features given, full context.

    Args:
        setup: What all have in common.
        dino: The official code, if it is there.
        clock: Tells the time.
    """
    sequences = _with_features(setup, setup.size)
    model = setup.model(dict(type='RawPixels', patch_size=setup.patch_size))
    first = sequences[0]
    grid, flat = first.grid, [cells(maps) for maps in first.maps]
    number = len(flat) - 1  # the frame to be labelled
    before = [0, *range(max(1, number - model.num_context), number)]
    labels = first.labels_of(model)
    known = [
        Frame(F.normalize(flat[i], dim=1), cells(labels), True) for i in before
    ]
    steps: dict[str, Step] = {}
    facts: dict[str, Any] = {}
    if dino:
        code = dino
        start = clock()
        code.neighborhood(*grid)
        synchronize(code.device)
        facts['neighborhood_seconds'] = clock() - start
        steps['DINO'] = lambda: code.propagate(
            flat[number],
            [flat[i] for i in before],
            [labels[None]] * len(before),
            grid,
        )
        facts |= agreement(
            [
                (
                    code.segment_given(
                        [cells(maps) for maps in sequence.maps],
                        sequence.grid,
                        sequence.sample.frame_paths,
                        sequence.sample.mask_paths[0],
                    ),
                    sequence.masks_of(model),
                )
                for sequence in sequences
            ]
        )

    @torch.no_grad()
    def ours() -> Tensor:
        features = F.normalize(flat[number], dim=1)
        return model.propagation(features, known, grid)

    steps[OURS] = ours
    return Task(
        'propagation as in DINO, features given, '
        f'{len(before)} frames as context, grid {grid[0]}x{grid[1]}',
        'frame',
        1,
        torch.device(setup.device),
        'DINO',
        steps,
        facts,
    )


def crw_propagation(setup: Setup, cropmae: CropMAE | None) -> Task:
    """Propagation in CRW's form, features given, two frames.

    Args:
        setup: What all have in common.
        cropmae: The official code, if it is there.
    """
    sequences = _with_features(setup, setup.crw_size)
    form = Config.fromfile(CRW_CONFIG).model.to_dict()
    del form['type']
    model = setup.model(
        dict(type='RawPixels', patch_size=setup.patch_size), **form
    )
    first = sequences[0]
    flat = [F.normalize(cells(maps), dim=1) for maps in first.maps]
    numbers = [len(flat) - 2, len(flat) - 1]  # they do two at a time
    before = [
        [0, *(max(0, n - 1 - i) for i in reversed(range(model.num_context)))]
        for n in numbers
    ]
    labels = first.labels_of(model)
    steps: dict[str, Step] = {}
    facts: dict[str, Any] = {}
    if cropmae:
        code = cropmae
        # (1, D, N, L) and (1, D, N, K, L), as their function takes them.
        query = torch.stack([flat[n].T for n in numbers], 1)[None]
        keys = torch.stack(
            [torch.stack([flat[i].T for i in row], 1) for row in before], 1
        )[None]
        sources = labels.flatten(1).repeat(1, len(before[0]))
        steps['CropMAE'] = lambda: code.propagate(query, keys, sources)
        facts |= agreement(
            [
                (
                    code.segment_given(
                        [cells(maps) for maps in sequence.maps],
                        setup.root,
                        sequence.sample.sequence,
                    ),
                    sequence.masks_of(model),
                )
                for sequence in sequences
            ]
        )

    known = [
        [Frame(flat[i], cells(labels), place > 0) for place, i in enumerate(r)]
        for r in before
    ]

    @torch.no_grad()
    def ours() -> list[Tensor]:
        return [
            model.propagation(flat[n], context, first.grid)
            for n, context in zip(numbers, known, strict=True)
        ]

    steps[OURS] = ours
    return Task(
        'propagation as in CRW and CropMAE, features given, '
        f'{len(before[0])} frames as context, grid '
        f'{first.grid[0]}x{first.grid[1]}',
        'frame',
        len(numbers),
        torch.device(setup.device),
        'CropMAE',
        steps,
        facts,
    )
