# Copyright (c) MotionMAE contributors. All rights reserved.
"""DINO's propagation, and the scores of DAVIS, run from clones.

https://github.com/facebookresearch/dino
https://github.com/davisvideochallenge/davis2017-evaluation

Their functions run as they are. What else they import need not be installed,
and on a CPU `Tensor.cuda` does nothing.

Shapes: N frames, L = h*w cells of the patch grid, D width, C labels.
"""

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mmmotionmae.datasets.sequences import PALETTE, read_mask

from .imports import as_if_cuda, check_clone, importing_from, stand_in

Size = tuple[int, int]


class Dino:
    """The propagation of `eval_video_segmentation.py`.

    Its loop over the neighbourhood, which takes seconds, runs once for each
    size; the mask that it makes is used again.

    Args:
        clone: The folder.
        patch_size: Height and width of a patch.
        size: Short side of the frames that the encoder sees; theirs is 480.
        device: Where it runs.

    Raises:
        UsageError: If it is not there.
    """

    def __init__(
        self, clone: str, patch_size: int, size: int, device: torch.device
    ) -> None:
        check_clone('dino', clone)
        names = ('eval_video_segmentation', 'vision_transformer', 'utils')
        stand_ins = stand_in('torchvision.transforms')
        with importing_from(clone, names, stand_ins):
            self.code = importlib.import_module(names[0])
            self.vits = importlib.import_module(names[1])
        self.patch_size = patch_size
        self.size = size
        self.device = device
        self.settings = SimpleNamespace(
            n_last_frames=7,
            size_mask_neighborhood=12,
            topk=5,
            patch_size=patch_size,
        )
        self._loop = self.code.restrict_neighborhood
        read_frame = self.code.read_frame
        vars(self.code).update(
            args=self.settings,
            tqdm=iter,
            read_frame=lambda path: read_frame(path, [size]),
            restrict_neighborhood=self.neighborhood,
        )
        self._neighborhoods: dict[Size, Tensor] = {}

    def neighborhood(self, height: int, width: int) -> Tensor:
        """Which cells may be neighbours, (L, L), 0 or 1; their loop."""
        if (height, width) not in self._neighborhoods:
            with as_if_cuda(self.device):
                mask = self._loop(height, width)
            self._neighborhoods[height, width] = mask
        return self._neighborhoods[height, width]

    def build_vit(self, arch: str) -> nn.Module:
        """Their ViT, with random weights.

        Args:
            arch: ``'small'`` or ``'base'``.
        """
        build = getattr(self.vits, f'vit_{arch}')
        vit = build(patch_size=self.patch_size, num_classes=0)
        return vit.to(self.device).eval().requires_grad_(False)

    @torch.no_grad()
    def propagate(
        self,
        features: Tensor,
        context: Sequence[Tensor],
        labels: Sequence[Tensor],
        grid: Size,
    ) -> Tensor:
        """Label one frame.

        Args:
            features: (L, D).
            context: (L, D) for each frame of the context.
            labels: (1, C, h, w) for each frame of the context.
            grid: (h, w).

        Returns:
            (1, C, h, w).
        """
        mask = self.neighborhood(*grid)[None]
        sources = [frame.T for frame in context]
        with self._serving([features], grid), as_if_cuda(self.device):
            maps, _, _ = self.code.label_propagation(
                self.settings, None, 0, sources, list(labels), mask
            )
        return maps

    def segment(
        self,
        model: nn.Module | None,
        frame_paths: Sequence[str],
        mask_path: str,
        out_dir: str,
    ) -> None:
        """From files to files.

        Args:
            model: What :meth:`build_vit` returns.
            frame_paths: The frames, with a folder named as the sequence.
            mask_path: The mask of the first one.
            out_dir: Gets ``<sequence>/<frame name>.png``.
        """
        self.settings.output_dir = out_dir
        with as_if_cuda(self.device):
            first, mask = self.code.read_seg(
                mask_path, self.patch_size, [self.size]
            )
            self.code.eval_video_tracking_davis(
                self.settings,
                model,
                list(frame_paths),
                str(Path(frame_paths[0]).parent),
                first,
                mask,
                PALETTE,
            )

    def segment_given(
        self,
        features: Sequence[Tensor],
        grid: Size,
        frame_paths: Sequence[str],
        mask_path: str,
    ) -> np.ndarray:
        """Masks (N, H, W), uint8, with features (L, D) of each frame given."""
        with Image.open(mask_path) as picture:
            width, height = picture.size
        numbers = {path: i for i, path in enumerate(frame_paths)}
        with (
            tempfile.TemporaryDirectory() as folder,
            self._serving(features, grid),
            mock.patch.object(
                self.code,
                'read_frame',
                lambda path: (numbers[path], height, width),
            ),
        ):
            self.segment(None, frame_paths, mask_path, folder)
            return read_masks(
                Path(folder) / Path(frame_paths[0]).parent.name, frame_paths
            )

    def _serving(self, features: Sequence[Tensor], grid: Size) -> Any:
        """While it lasts, frames are numbers, of which features are known."""

        def extract_feature(
            model: None, frame: int, return_h_w: bool = False
        ) -> Any:
            if return_h_w:
                return features[frame], *grid
            return features[frame]

        return mock.patch.object(self.code, 'extract_feature', extract_feature)


def read_masks(folder: Path, frames: Sequence[str | Path]) -> np.ndarray:
    """The masks of frames, (N, H, W), uint8, named as these."""
    return np.stack(
        [read_mask(folder / f'{Path(frame).stem}.png') for frame in frames]
    )


def disk(radius: float) -> np.ndarray:
    """Instead of `skimage.morphology.disk`: uint8 (2 r + 1, 2 r + 1)."""
    line = np.arange(-radius, radius + 1)
    square = line[:, None] ** 2 + line**2
    return (square <= radius**2).astype(np.uint8)


def load_davis_scores(
    clone: str,
) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The scores of DAVIS-2017, semi-supervised.

    Args:
        clone: The folder.

    Returns:
        A function of ground truth and masks, both bool (C, N, H, W), that
        returns J and F, both (C, N).

    Raises:
        UsageError: If it is not there.
    """
    check_clone('davis2017-evaluation', clone)
    stand_ins = stand_in('skimage.morphology', disk=disk)
    with importing_from(clone, ['davis2017'], stand_ins):
        code = importlib.import_module('davis2017.evaluation')
    evaluate = code.DAVISEvaluation._evaluate_semisupervised

    def score(
        gt_masks: np.ndarray, masks: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        with importing_from(clone, [], stand_ins):  # imported when it is used
            return evaluate(gt_masks, masks, None, ('J', 'F'))

    return score
