# Copyright (c) MotionMAE contributors. All rights reserved.
"""Optical flow.

Shapes: N clips of a sample, B of a batch, T frames, H W size.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmaction.registry import MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmcv.transforms import BaseTransform
from torch import Tensor

from ...utils.errors import UsageError
from ...utils.transfer import wants_pinned
from .drawing import UInt8Array
from .tubelet_target import TubeletTarget

# The least flow, in pixels, that gets full colour: what the methods are off
# should not look like motion.
LEAST_SCALE = 0.5

# Lengths and corners of the colour wheel: red, yellow, green, cyan, ...
_RUNS = (15, 6, 4, 11, 13, 6)
_CORNERS = np.array(
    [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]]
)


@TRANSFORMS.register_module()
class OpticalFlow(BaseTransform):
    """The dense optical flow of a clip, by OpenCV.

    How the point that frame t shows at (x, y) has moved since frame t - 1:
    (dx, dy) = flow[:, t, y, x] means that frame t - 1 showed it at (x - dx,
    y - dy); dx is positive to the right, dy downwards. So it lies on the grid
    of frame t, as the difference I_t - I_(t - 1) of :class:`FrameDifference`
    does, and to first order that difference is -(dx, dy) . grad I. It is
    the negative of the flow that OpenCV finds from frame t to frame t - 1,
    in the grey values of both.

    Goes after all transforms that crop, flip or resize, before or after
    ``FormatShape('NCTHW')`` or :class:`FormatClip`; then ``PackActionInputs(
    algorithm_keys=('mask', 'flow'))`` hands it to :class:`FlowTarget`.

    OpenCV uses as many threads as ``cv2.getNumThreads()`` says; the loaders
    of MMEngine set it with ``env_cfg.mp_cfg.opencv_num_threads``.

    Required keys: ``imgs``: RGB, uint8, a list of frames (H, W, 3) and with
    it ``clip_len``, or clips (N, 3, T, H, W).

    Added keys: ``flow``: a tensor, float16 (N, 2, T, H, W), in pixels. It is
    rounded by at most ``abs(d) / 2048``, below what the methods are off.

    Args:
        method (str): ``'dis'``: Fast Optical Flow using Dense Inverse Search
            (Kroeger et al., ECCV 2016). ``'farneback'``: Two-Frame Motion
            Estimation Based on Polynomial Expansion (Farnebäck, SCIA 2003),
            with the parameters of OpenCV's tutorial. Defaults to ``'dis'``.
        preset (str): Of ``'dis'``: ``'ultrafast'``, ``'fast'`` or
            ``'medium'``, the most exact. Defaults to ``'fast'``.
        first (str): What stands at the first frame, which has no
            predecessor: ``'repeat'``, the flow of the second, or ``'zero'``.
            Defaults to ``'repeat'``.

    Raises:
        ValueError: If an argument is none of the above, or, on a clip, if the
            frames are not RGB in uint8, or fewer than two.
    """

    def __init__(
        self, method: str = 'dis', preset: str = 'fast', first: str = 'repeat'
    ) -> None:
        for name, value, choices in (
            ('method', method, ('dis', 'farneback')),
            ('preset', preset, ('ultrafast', 'fast', 'medium')),
            ('first', first, ('repeat', 'zero')),
        ):
            if value not in choices:
                raise ValueError(
                    f'{name} must be one of {choices}, not {value!r}.'
                )
        self.method = method
        self.preset = preset
        self.first = first

    def transform(self, results: dict) -> dict:
        """Add ``flow``."""
        imgs = results['imgs']
        if isinstance(imgs, list):
            clips = np.stack(imgs)
            clips = clips.reshape(-1, results['clip_len'], *clips.shape[1:])
        else:
            clips = np.moveaxis(np.asarray(imgs), 1, -1)
        if (
            clips.ndim != 5
            or clips.shape[-1] != 3
            or clips.dtype != np.uint8
            or clips.shape[1] < 2
        ):
            raise ValueError(
                'OpticalFlow takes clips of at least two RGB frames in uint8, '
                f'(N, T, H, W, 3); got {clips.shape}, {clips.dtype}.'
            )
        flow = np.zeros((*clips.shape[:-1], 2), np.float16)
        for clip, out in zip(clips, flow, strict=True):
            self._flow(clip, out)
        results['flow'] = torch.from_numpy(
            np.ascontiguousarray(np.moveaxis(flow, -1, 1))
        )
        return results

    def _flow(self, clip: np.ndarray, out: np.ndarray) -> None:
        """The flow (T, H, W, 2) of a clip (T, H, W, 3)."""
        grey = [
            cv2.cvtColor(np.ascontiguousarray(x), cv2.COLOR_RGB2GRAY)
            for x in clip
        ]
        if self.method == 'dis':
            # Not kept: it cannot be sent to the processes of a loader.
            preset = f'DISOPTICAL_FLOW_PRESET_{self.preset.upper()}'
            dis = cv2.DISOpticalFlow.create(getattr(cv2, preset))
        for t in range(1, len(grey)):
            if self.method == 'dis':
                back = dis.calc(grey[t], grey[t - 1], None)
            else:
                back = cv2.calcOpticalFlowFarneback(
                    grey[t], grey[t - 1], None, 0.5, 3, 15, 3, 5, 1.2, 0
                )
            out[t] = -back
        if self.first == 'repeat':
            out[0] = out[1]

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(method={self.method!r}, '
            f'preset={self.preset!r}, first={self.first!r})'
        )


@MODELS.register_module()
class FlowTarget(TubeletTarget):
    """The optical flow of a clip, which :class:`OpticalFlow` has made.

    MotionMAE (arXiv 2210.04154) names it as a dearer alternative to the
    difference of frames. Its two channels are dx and dy, in pixels.

    Args:
        norm (str): As in :class:`ReconstructionTarget`. ``'tubelet'`` takes
            away what a tubelet moves as a whole and leaves how the flow
            varies inside it; ``'clip'`` takes away the mean flow of the clip
            alone, as from the motion of the camera; ``'none'`` leaves it in
            pixels. Defaults to ``'clip'``.
        field (str): The field of the data samples, (N, 2, T, H, W), float.
            Defaults to ``'flow'``.
        **kwargs: As in :class:`TubeletTarget`.
    """

    label = 'flow'
    transforms = (dict(type='OpticalFlow'),)

    def __init__(
        self, norm: str = 'clip', field: str = 'flow', **kwargs: Any
    ) -> None:
        super().__init__(norm=norm, **kwargs)
        self.field = field
        self.fields = (field,)

    @property
    def video_channels(self) -> int:
        """int: 2."""
        return 2

    def video(
        self,
        frames: Tensor,
        data_samples: Sequence[ActionDataSample] | None = None,
    ) -> Tensor:
        """The flow of the data samples, on the device of the frames.

        Args:
            frames: (B, C, T, H, W).
            data_samples: B / N samples with the flow of N clips each.

        Returns:
            (B, 2, T, H, W), float32, in pixels.

        Raises:
            ValueError: If a sample has no flow, or one of another size.
        """
        flows = [sample.get(self.field) for sample in data_samples or ()]
        if not flows or any(flow is None for flow in flows):
            raise UsageError(
                f'There is no {self.field!r} in the data samples: put '
                "dict(type='OpticalFlow') after the transforms that crop, "
                'flip and resize, and '
                f"algorithm_keys=('mask', {self.field!r}) in "
                'PackActionInputs.'
            )
        expected = (2, *frames.shape[2:])
        shapes = {tuple(flow.shape[1:]) for flow in flows}
        count = sum(len(flow) for flow in flows)
        if shapes != {expected} or count != len(frames):
            raise UsageError(
                f'The flow of {len(frames)} clips must be of {expected} each; '
                f'got {count} of {sorted(shapes)}: OpticalFlow goes after all '
                'transforms that change the size of the frames.'
            )
        # Into pinned memory, from where it can be copied without a wait.
        flow = torch.empty(
            (count, *expected),
            dtype=flows[0].dtype,
            pin_memory=wants_pinned(frames.device),
        )
        torch.cat(flows, out=flow)
        return flow.to(frames.device, non_blocking=True).float()

    def scale(self, video: Tensor) -> float:
        """The length that 99.9 % do not exceed, at least LEAST_SCALE."""
        length = self.magnitude(video).cpu().numpy()
        return max(float(np.quantile(length, 0.999)), LEAST_SCALE)

    def legend(self, scale: float) -> str:
        """Meaning of the colours."""
        return f'white 0, full colour {scale:.1f} pixels, hue: direction'

    def draw(self, video: Tensor, scale: float) -> UInt8Array:
        """(2, T, H, W) to RGB, uint8 (T, H, W, 3): :func:`flow_to_rgb`."""
        return flow_to_rgb(video.numpy(), scale)

    def magnitude(self, video: Tensor) -> Tensor:
        """(..., 2, T, H, W) to its length (..., T, H, W), in pixels."""
        return video.square().sum(-4).sqrt()


def flow_to_rgb(flow: np.ndarray, scale: float) -> UInt8Array:
    """Show flow as a picture: hue is direction, white is rest.

    The colour code of A Database and Evaluation Methodology for Optical Flow
    (Baker et al., IJCV 2011; ``colorcode.cpp`` of its web site): red is to
    the right, yellow down, blue up.

    Args:
        flow: (2, T, H, W), dx and dy in pixels.
        scale: The length of full colour; longer ones are darker.

    Returns:
        (T, H, W, 3), uint8.
    """
    wheel = np.concatenate(
        [
            255 * a + (b - a) * (255 * np.arange(n) // n)[:, None]
            for n, a, b in zip(
                _RUNS, _CORNERS, np.roll(_CORNERS, -1, 0), strict=True
            )
        ]
    )
    dx, dy = flow.astype(np.float64) / scale
    radius = np.hypot(dx, dy)[..., None]
    place = (np.arctan2(-dy, -dx) / np.pi + 1) / 2 * (len(wheel) - 1)
    lower = place.astype(int)
    share = (place - lower)[..., None]
    colour = wheel[lower] * (1 - share)
    colour += wheel[(lower + 1) % len(wheel)] * share
    inside = 255 - radius * (255 - colour)
    return np.where(radius <= 1, inside, 0.75 * colour).astype(np.uint8)
