# Copyright (c) MotionMAE contributors. All rights reserved.
"""The slot for targets.

Shapes: B clips, C channels, T frames, H W size, N tokens, M of them masked,
K = G*P values of a token in G groups of P.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from ...utils.choices import STATISTICS
from ...utils.errors import UsageError
from ..utils.precision import full_precision
from ..utils.reconstruction_error import explained_variance
from ..utils.tubelet import TokenSplit
from .drawing import UInt8Array, draw_frames
from .values import (
    LEVELS,
    NORMS,
    TargetValues,
    leave_as_is,
    normalise_by,
    normalise_groups,
)

# Those that take mean and deviation of each token by itself.
TUBELET_NORMS = ('tubelet', 'tubelet-floor')


class ReconstructionTarget(nn.Module):
    """Base class of what is predicted at the masked tokens.

    A subclass has to give :attr:`num_values`, :meth:`video` and
    :meth:`select`; one that wants ``norm='clip'``, :meth:`statistics`, too,
    and for ``'tubelet-floor'`` :meth:`noise`.
    For targets that are themselves a video, cut into tubelets, there is
    :class:`TubeletTarget`. To be drawn otherwise than as RGB, it gives
    :meth:`scale`, :meth:`legend`, :meth:`colours` and :meth:`draw`.

    :class:`MotionMAE` owns the targets; data preprocessor, decoder and head
    hold references only. A target with weights of its own (a teacher) keeps
    them frozen and in evaluation mode itself.

    Args:
        name (str): Its key in ``MotionMAE.targets``: that of its predictor,
            losses and scores. :class:`MotionMAE` fills it in.
        weight (float): Weight of its loss, above 0. Defaults to 1.
        norm (str): ``'tubelet'``: each token is normalised by its own mean
            and standard deviation (each of its G groups). ``'clip'``: by
            those of the whole clip. ``'none'``: not at all.
            ``'tubelet-floor'``: by the token's own mean, and by
            sqrt(std² + noise²), the noise being that of the clip, so that a
            token that holds nothing else stays small. Defaults to
            ``'tubelet'``.
        channels (int): Channels C of a frame. :class:`MotionMAE` fills it in
            from the encoder. Defaults to 3.
        tubelet_size (int): Frames of a tubelet. Likewise. Defaults to 2.
        patch_size (int): Height and width of a tubelet, in pixels. Likewise.
            Defaults to 16.
        floor (float, optional): The noise for ``'tubelet-floor'``, in units
            of the [0, 1] pixel range, instead of what is estimated of each
            clip: for videos whose compression is worse than their sensor.
            Defaults to None.

    Raises:
        ValueError: If the weight is not above 0, there is no such norm, or a
            floor without its norm.
    """

    norms: tuple[str, ...] = NORMS
    """The norms that it can have."""

    levels: int = LEVELS
    """How many levels make 1, where values are integers."""

    label = ''
    """The word for people, in captions. Defaults to the name."""

    transforms: tuple[dict[str, Any], ...] = ()
    """Configs of the transforms that make its fields, after all others."""

    fields: tuple[str, ...] = ()
    """The fields of the data samples that it reads."""

    float_frames = False
    """:meth:`video` takes frames in float32, in [0, 1], as well."""

    shown_by_input = False
    """The true video is the input itself, not to be shown twice."""

    def __init__(
        self,
        name: str,
        weight: float = 1.0,
        norm: str = 'tubelet',
        channels: int = 3,
        tubelet_size: int = 2,
        patch_size: int = 16,
        floor: float | None = None,
    ) -> None:
        super().__init__()
        if not 0 < weight < math.inf:
            raise UsageError(
                f'The weight of target {name!r} must be above 0 and finite, '
                f'not {weight}; a target that is not wanted is left out.'
            )
        if norm not in self.norms:
            raise UsageError(
                f'The norm of target {name!r} must be one of {self.norms}, '
                f'not {norm!r}.'
            )
        if floor is not None and (norm != 'tubelet-floor' or floor < 0):
            raise UsageError(
                f'The floor of target {name!r} must not be negative, and '
                f"belongs to the norm 'tubelet-floor': {floor}, {norm!r}."
            )
        self.name = name
        self.weight_factor = 1.0  # of a warm-up
        self.weight = weight
        self.norm = norm
        self.floor = floor
        self.channels = channels
        self.tubelet_size = tubelet_size
        self.patch_size = patch_size

    @property
    def num_values(self) -> int:
        """int: K, the values of one token."""
        raise NotImplementedError

    def video(
        self,
        frames: Tensor,
        data_samples: Sequence[ActionDataSample] | None = None,
    ) -> Tensor:
        """Make what the target is taken from; on the device, per batch.

        Called by the data preprocessor, for whole clips.

        Args:
            frames: (B, C, T, H, W), uint8, RGB; not to be changed.
            data_samples: B / n samples of n clips each, with what the loader
                made.

        Returns:
            (B, ...), such as a video (B, C', T, H, W) in levels of 1/255
            (uint8, int16), or float32.
        """
        raise NotImplementedError

    def select(self, video: Tensor, index: Tensor) -> Tensor:
        """The values of some tokens, not normalised.

        Args:
            video: What :meth:`video` returns.
            index: (B, N), int64, in token order.

        Returns:
            (B, N, G, P), levels or float32; a copy, which is overwritten.
        """
        raise NotImplementedError

    def statistics(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of whole clips, for ``norm='clip'``.

        Args:
            video: What :meth:`video` returns.

        Returns:
            They broadcast over (B, N, G, P); the deviation is above 0.
        """
        raise NotImplementedError

    def noise(self, video: Tensor) -> Tensor:
        """Deviation of the noise of whole clips, for ``'tubelet-floor'``.

        Args:
            video: What :meth:`video` returns.

        Returns:
            It broadcasts over (B, N, G, 1).
        """
        raise NotImplementedError

    def build(
        self, video: Tensor, index: Tensor, reference: Tensor | None = None
    ) -> TargetValues:
        """The normalised target at some tokens.

        Without gradients, in float32 whatever the precision of the model,
        and with nothing that the host would have to wait for.

        Args:
            video: What :meth:`video` returns.
            index: (B, N), int64: the masked tokens, say.
            reference: The video whose statistics and noise, those of whole
                clips, count. Defaults to ``video``.

        Returns:
            The values and their statistics.
        """
        known = video if reference is None else reference
        with torch.no_grad(), full_precision(video):
            values = self.select(video, index)
            if self.norm in TUBELET_NORMS:
                noise: Tensor | float | None = self.floor
                if noise is None and self.norm == 'tubelet-floor':
                    noise = self.noise(known)
                return normalise_groups(values, noise, self.levels)
            if self.norm == 'clip':
                return normalise_by(
                    values, *self.statistics(known), self.levels
                )
            return leave_as_is(values, self.levels)

    def scores(
        self, target: TargetValues, squared_error: Tensor
    ) -> dict[str, Tensor]:
        """The share of variance that is explained, for the log.

        Args:
            target: What :meth:`build` returns. Its ``values`` may have been
                overwritten.
            squared_error: (B, M): of each token, summed over its K values.

        Returns:
            Float32 scalars: ``r2``, and of each of :meth:`subsets`. They are
            logged as ``r2_NAME`` and, say, ``r2_NAME_moving``.
        """
        scores = dict(r2=self.r2(target, squared_error))
        for name, tokens in self.subsets(target).items():
            scores[f'r2_{name}'] = self.r2(target, squared_error, tokens)
        return scores

    def subsets(self, target: TargetValues) -> dict[str, Tensor]:
        """Tokens that are scored by themselves, too.

        Args:
            target: What :meth:`build` returns. Its ``values`` may have been
                overwritten.

        Returns:
            By name, (B, M), bool. None, unless overridden.
        """
        return {}

    def r2(
        self,
        target: TargetValues,
        squared_error: Tensor,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """R² over all tokens, or over some, (B, M) bool, alone."""
        return explained_variance(
            squared_error,
            target.sum,
            target.square,
            self.num_values,
            tokens,
        )

    def errors(self, mse: float) -> dict[str, float]:
        """Errors of a reconstruction, for people.

        Args:
            mse: Mean squared error over the masked tokens, in the units of
                the reconstruction.
        """
        return dict(mse=mse)

    def reconstruct(
        self,
        pred: Tensor,
        video: Tensor,
        split: TokenSplit,
        statistics: str = 'true',
    ) -> Tensor | None:
        """Put a prediction back into the video.

        Args:
            pred: (B, M, K), normalised.
            video: What :meth:`video` returns.
            split: Which tokens are masked.
            statistics: With which mean and deviation the normalisation is
                undone: ``'true'`` or ``'visible'``.

        Returns:
            (B, C', T, H, W), float32; None for a target that is no video,
            the default, which is not drawn either.

        Raises:
            ValueError: If there are no such ``statistics``.
        """
        if statistics not in STATISTICS:
            raise UsageError(
                f'statistics must be one of {STATISTICS}, not {statistics!r}.'
            )
        return None

    def scale(self, video: Tensor) -> float:
        """Range of values that a picture of the true video spans."""
        return 1.0

    def legend(self, scale: float) -> str:
        """Meaning of a picture's colours; '' for those of a video."""
        return ''

    def colours(self) -> UInt8Array | None:
        """Colours from -scale to +scale, for a bar; None: it has no such.

        Returns:
            RGB, uint8 (N, 3).
        """
        return None

    def draw(self, video: Tensor, scale: float) -> UInt8Array:
        """Show a true or predicted video as a film.

        Args:
            video: (C, T, H, W), float32.
            scale: :meth:`scale` of the true one.

        Returns:
            RGB, uint8 (T, H, W, 3).
        """
        return draw_frames(video)

    def magnitude(self, video: Tensor) -> Tensor | None:
        """Size of the target at each pixel, for a heat map.

        Args:
            video: (..., C, T, H, W), float32.

        Returns:
            (..., T, H, W), in units of :meth:`scale`; None if it has no size.
        """
        return None

    def extra_repr(self) -> str:
        """Name, weight and norm."""
        return f'{self.name}, weight={self.weight}, norm={self.norm!r}'
