# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import torch
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform
from torch import Tensor

from ...models.targets import check_frame_difference, frame_difference


@TRANSFORMS.register_module()
class FrameDifference(BaseTransform):
    """The motion of a clip: the temporal difference of its frames.

    The same numbers as those of :class:`FrameDifferenceTarget`, which takes
    them from whole batches on the device; this one works in any MMAction2
    pipeline, before or after ``FormatShape``.

    Args:
        mode (str): ``'signed'`` or ``'absolute'``. Defaults to ``'signed'``.
        gap (int): Frames between the two that are compared. Defaults to 1
            (best in the paper).
        first (str): What stands at the first ``gap`` frames, which have no
            predecessor: ``'repeat'``, the first difference there is, or
            ``'zero'``. Defaults to ``'repeat'``.

    Raises:
        ValueError: If an argument is none of the above, or, on a clip, if it
            has no more than ``gap`` frames.
    """

    def __init__(
        self, mode: str = 'signed', gap: int = 1, first: str = 'repeat'
    ) -> None:
        check_frame_difference(mode, gap, first)
        self.mode = mode
        self.gap = gap
        self.first = first

    def difference(self, clip: Tensor, dim: int) -> Tensor:
        """Take the difference along the frames of a clip.

        Args:
            clip: Of any shape: uint8, or signed of any dtype and unit.
            dim: The dimension of the frames.

        Returns:
            Same shape and unit; int16 for uint8, else the same dtype.

        Raises:
            ValueError: If it has no more than ``gap`` frames.

        Examples:
            >>> clip = torch.tensor([0., .5, .25])
            >>> FrameDifference().difference(clip, dim=0).tolist()
            [0.5, 0.5, -0.25]
        """
        return frame_difference(clip, dim, self.mode, self.gap, self.first)

    def transform(self, results: dict) -> dict:
        """Add ``motion``.

        Args:
            results: With ``imgs``: uint8, a list of frames (H, W, C), or,
                after ``FormatShape('NCTHW')``, an array (N, C, T, H, W).

        Returns:
            The same, with ``motion`` in the layout of ``imgs``: float32, in
            units of the [0, 1] pixel range. A list of frames is cut into
            clips of ``clip_len`` frames first (of several crops, too).
        """
        imgs = results['imgs']
        if isinstance(imgs, list):
            clips = np.stack(imgs)
            clip_len = results.get('clip_len', len(imgs))
            clips = clips.reshape(-1, clip_len, *clips.shape[1:])
            motion = self._of_uint8(clips, dim=1)
            results['motion'] = list(motion.reshape(-1, *motion.shape[2:]))
        elif imgs.ndim == 5:
            results['motion'] = self._of_uint8(imgs, dim=2)
        else:
            raise ValueError(
                'FrameDifference needs a list of frames, or clips of '
                f"FormatShape(input_format='NCTHW'); got {imgs.shape}."
            )
        return results

    def _of_uint8(self, frames: np.ndarray, dim: int) -> np.ndarray:
        levels = torch.from_numpy(np.ascontiguousarray(frames))
        return self.difference(levels, dim).float().div_(255).numpy()

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(mode={self.mode!r}, gap={self.gap}, '
            f'first={self.first!r})'
        )
