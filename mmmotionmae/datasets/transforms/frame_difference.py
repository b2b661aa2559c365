# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import torch
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform
from torch import Tensor


@TRANSFORMS.register_module()
class FrameDifference(BaseTransform):
    """The motion of a clip: the temporal difference of its frames.

    d_t = I_t - I_(t - gap), over the whole clip, so that it crosses the
    borders of tubelets. :class:`MotionMAEDataPreprocessor` calls
    :meth:`difference` on whole batches; as a transform it works in any
    MMAction2 pipeline, before or after ``FormatShape``.

    The default is what the demo of MotionMAE's authors shows: a signed
    difference of adjacent sampled frames, the first one repeated. A reading
    of the paper's text would be ``mode='absolute'``.

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
        if mode not in ('signed', 'absolute'):
            raise ValueError(
                f"mode must be 'signed' or 'absolute', not {mode!r}."
            )
        if gap < 1:
            raise ValueError(f'gap must be at least 1, not {gap}.')
        if first not in ('repeat', 'zero'):
            raise ValueError(
                f"first must be 'repeat' or 'zero', not {first!r}."
            )
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

        Examples:
            >>> clip = torch.tensor([0., .5, .25])
            >>> FrameDifference().difference(clip, dim=0).tolist()
            [0.5, 0.5, -0.25]
        """
        num_frames = clip.size(dim)
        if num_frames <= self.gap:
            raise ValueError(
                f'A clip of {num_frames} frames has no difference of frames '
                f'{self.gap} apart.'
            )
        # In place, for fresh memory costs more than the difference itself.
        motion = (
            clip.to(torch.int16) if clip.dtype == torch.uint8 else clip.clone()
        )
        later = motion.narrow(dim, self.gap, num_frames - self.gap)
        later.sub_(clip.narrow(dim, 0, num_frames - self.gap))
        if self.mode == 'absolute':
            later.abs_()
        first = motion.narrow(dim, 0, self.gap)
        if self.first == 'repeat':
            first.copy_(motion.narrow(dim, self.gap, 1).expand_as(first))
        else:
            first.zero_()
        return motion

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
