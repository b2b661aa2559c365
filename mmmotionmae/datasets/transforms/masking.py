# Copyright (c) MotionMAE contributors. All rights reserved.
"""Masks of tokens: random, in tubes, or in frames.

Every transform here adds ``mask``: (N, L), bool, True = masked (removed), for
the N clips of a sample, tokens ordered (t, h, w). All clips have the same
number of masked tokens.
"""

from abc import abstractmethod

import numpy as np
import torch
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from ...models.utils.tubelet import Grid, token_grid
from ...utils.errors import UsageError


class _Masking(BaseTransform):
    """Base of the masking transforms; goes after ``FormatShape('NCTHW')``.

    Args:
        mask_ratio (float): Share of masked tokens, in (0, 1). The number of
            masked tokens is rounded down. Defaults to 0.9.
        patch_size (int): Height and width of a tubelet, in pixels.
            Defaults to 16.
        tubelet_size (int): Frames of a tubelet. Defaults to 2.

    Raises:
        UsageError: If the ratio is not in (0, 1), or, on a clip, if the clip
            does not divide evenly or the ratio masks nothing.
    """

    def __init__(
        self,
        mask_ratio: float = 0.9,
        patch_size: int = 16,
        tubelet_size: int = 2,
    ) -> None:
        if not 0 < mask_ratio < 1:
            raise UsageError(
                f'mask_ratio must be between 0 and 1, not {mask_ratio}.'
            )
        self.mask_ratio = mask_ratio
        self.patch_size = patch_size
        self.tubelet_size = tubelet_size

    @abstractmethod
    def sample(self, grid: Grid) -> np.ndarray:
        """Draw the mask of one clip: (t, h, w), bool, True = masked."""

    def transform(self, results: dict) -> dict:
        """Add ``mask``.

        Args:
            results: With ``imgs``: (N, C, T, H, W).

        Returns:
            The same, with ``mask``: a bool tensor (N, L).
        """
        imgs = results['imgs']
        if not hasattr(imgs, 'shape') or len(imgs.shape) != 5:
            raise UsageError(
                f'{type(self).__name__} goes after '
                "FormatShape(input_format='NCTHW')."
            )
        t, h, w = imgs.shape[-3:]
        grid = token_grid(t, h, w, self.tubelet_size, self.patch_size)
        masks = np.stack([self.sample(grid).reshape(-1) for _ in imgs])
        results['mask'] = torch.from_numpy(masks)
        return results

    def _choose(self, size: int) -> np.ndarray:
        """Mask ``mask_ratio`` of ``size`` places: (size,), bool."""
        count = int(self.mask_ratio * size)
        if count == 0:
            raise UsageError(
                f'A mask_ratio of {self.mask_ratio} masks none of {size} '
                f'places in {type(self).__name__}: there would be nothing to '
                'predict.'
            )
        mask = np.zeros(size, dtype=bool)
        mask[np.random.permutation(size)[:count]] = True
        return mask

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(mask_ratio={self.mask_ratio}, '
            f'patch_size={self.patch_size}, '
            f'tubelet_size={self.tubelet_size})'
        )


@TRANSFORMS.register_module()
class TubeMasking(_Masking):
    """Mask the same places in every slot (VideoMAE, section 3.3).

    ``int(mask_ratio * h * w)`` places are masked, as in VideoMAE's code.

    Args:
        mask_ratio (float): Share of masked tokens, in (0, 1). The number of
            masked tokens is rounded down. Defaults to 0.9.
        patch_size (int): Height and width of a tubelet, in pixels.
            Defaults to 16.
        tubelet_size (int): Frames of a tubelet. Defaults to 2.
    """

    def sample(self, grid: Grid) -> np.ndarray:
        """Draw a mask of the grid."""
        t, h, w = grid
        return np.broadcast_to(self._choose(h * w).reshape(h, w), (t, h, w))


@TRANSFORMS.register_module()
class RandomMasking(_Masking):
    """Mask places independently of each other.

    Args:
        scope (str): ``'slot'``: ``int(mask_ratio * h * w)`` places in every
            slot, other ones in each, as in the demo of MotionMAE's authors.
            ``'clip'``: ``int(mask_ratio * L)`` places anywhere in the clip
            (MAE-ST). Defaults to ``'slot'``.
        mask_ratio (float): As in :class:`TubeMasking`.
        patch_size (int): Likewise.
        tubelet_size (int): Likewise.

    Raises:
        UsageError: If the scope is unknown.
    """

    def __init__(
        self,
        mask_ratio: float = 0.9,
        patch_size: int = 16,
        tubelet_size: int = 2,
        scope: str = 'slot',
    ) -> None:
        super().__init__(mask_ratio, patch_size, tubelet_size)
        if scope not in ('slot', 'clip'):
            raise UsageError(f"scope must be 'slot' or 'clip', not {scope!r}.")
        self.scope = scope

    def sample(self, grid: Grid) -> np.ndarray:
        """Draw a mask of the grid."""
        t, h, w = grid
        if self.scope == 'clip':
            return self._choose(t * h * w).reshape(grid)
        return np.stack([self._choose(h * w).reshape(h, w) for _ in range(t)])

    def __repr__(self) -> str:
        return f'{super().__repr__()[:-1]}, scope={self.scope!r})'


@TRANSFORMS.register_module()
class FrameMasking(_Masking):
    """Mask whole slots: ``int(mask_ratio * t)`` of them.

    Args:
        mask_ratio (float): Share of masked tokens, in (0, 1). The number of
            masked tokens is rounded down. Defaults to 0.9.
        patch_size (int): Height and width of a tubelet, in pixels.
            Defaults to 16.
        tubelet_size (int): Frames of a tubelet. Defaults to 2.
    """

    def sample(self, grid: Grid) -> np.ndarray:
        """Draw a mask of the grid."""
        t, h, w = grid
        return np.broadcast_to(self._choose(t)[:, None, None], (t, h, w))
