# Copyright (c) MotionMAE contributors. All rights reserved.
"""Joints as labels of patches, and back.

Shapes: T frames, K joints, h w the patch grid.
"""

from typing import NamedTuple

import numpy as np
import torch
from mmaction.registry import TASK_UTILS
from mmaction.structures import ActionDataSample
from torch import Tensor

Size = tuple[int, int]


class KeypointLabels(NamedTuple):
    """Meaning of the labels of a sequence.

    Attributes:
        original_shape: (H, W) of the sequence.
    """

    original_shape: Size


@TASK_UTILS.register_module()
class KeypointCodec:
    """Joints of a person as soft labels on the patch grid, and back.

    As in the propagation of poses of https://github.com/ajabri/videowalk
    (and of SiamMAE and CropMAE, which go by it): every joint is a Gaussian on
    the grid, and is read off a map as the weighted mean of its strongest
    cells.

    Args:
        sigma (float): Width of the Gaussian in cells of the grid; a multiple
            of 1/6, so that its square of ``6 * sigma + 1`` cells is whole.
            Defaults to 0.5.
        num_cells (int): How many of the strongest cells make up the position
            of a joint. Defaults to 5.

    Attributes:
        field (str): Of the data sample, for the joints of all frames.
        first_frame (str): ``'decoded'``: the joints of the first frame in
            the results are what the labels keep of them. They do not count.

    Raises:
        ValueError: If ``sigma`` is no positive multiple of 1/6.
    """

    field = 'pred_keypoints'
    first_frame = 'decoded'

    def __init__(self, sigma: float = 0.5, num_cells: int = 5) -> None:
        if sigma <= 0 or (6 * sigma) % 1:
            raise ValueError(
                f'sigma must be a positive multiple of 1/6; it is {sigma}.'
            )
        self.sigma = sigma
        self.num_cells = num_cells

    def describe(self) -> dict:
        """The arguments; they go into the results."""
        return dict(vars(self))

    def encode(
        self, sample: ActionDataSample, grid: Size
    ) -> tuple[Tensor, KeypointLabels]:
        """Draw the joints of the first frame.

        Args:
            sample: With the metainfo ``keypoints`` (T, K, 2), x and y in
                pixels of the original frame from 0; ``original_shape`` and
                ``img_shape``, (height, width). A joint that is NaN, or whose
                Gaussian lies outside, is not drawn.
            grid: (h, w).

        Returns:
            (1 + K, h, w) float32 between 0 and 1, the first channel is the
            background: 1 where no joint is; and what the labels mean.
        """
        joints = np.asarray(sample.keypoints[0], dtype=np.float64)
        size = np.array(sample.original_shape[::-1])
        img_size = np.array(sample.img_shape[::-1])
        patch_size = img_size / grid[::-1]
        # In this order, so that rounding is the same as in the reference.
        x, y = (joints * img_size / size / patch_size).T
        offset_x, inside_x = self._square(x, grid[1])
        offset_y, inside_y = self._square(y, grid[0])
        squares = offset_x[:, None, :] ** 2 + offset_y[:, :, None] ** 2
        inside = inside_x[:, None, :] & inside_y[:, :, None]
        maps = np.where(inside, np.exp(-squares / (2 * self.sigma**2)), 0)
        labels = torch.from_numpy(maps).float()
        background = (labels.sum(0, keepdim=True) == 0).float()
        return (
            torch.cat([background, labels]),
            KeypointLabels(sample.original_shape),
        )

    def _square(
        self, position: np.ndarray, num_cells: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The square of a Gaussian along one axis.

        Its edges are cut off to whole cells, towards 0 as ``int`` does, and
        the centre is a cell of the square, so a Gaussian moves in whole cells.

        Args:
            position: (K,) in cells.
            num_cells: Size of the grid.

        Returns:
            Distance of each cell from the centre, and whether the cell is
            inside the square, both (K, num_cells).
        """
        first = np.trunc(position - 3 * self.sigma)[:, None]
        end = np.trunc(position + 3 * self.sigma + 1)[:, None]
        cell = np.arange(num_cells)
        offset = cell - first - (6 * self.sigma + 1) // 2
        return np.nan_to_num(offset), (cell >= first) & (cell < end)

    def decode(self, maps: Tensor, labels: KeypointLabels) -> np.ndarray:
        """Read the joints off a map.

        Args:
            maps: (1 + K, h, w), not negative, the first channel is the
                background.
            labels: What they mean.

        Returns:
            (K, 2) float32, x and y in pixels of the original frame; NaN for a
            joint whose map is 0 everywhere.
        """
        # On the CPU, where the choice among equal cells is always the same.
        maps = maps[1:].float().cpu()
        height, width = maps.shape[1:]
        weights, cells = maps.flatten(1).T.topk(
            min(self.num_cells, height * width), dim=0
        )
        weights = weights / weights.sum(0)  # NaN if there is nothing
        x = (cells % width * weights).sum(0)
        y = (cells // width * weights).sum(0)
        original_height, original_width = labels.original_shape
        return torch.stack(
            [x / width * original_width, y / height * original_height], dim=-1
        ).numpy()
