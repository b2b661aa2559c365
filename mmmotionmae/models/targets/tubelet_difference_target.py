# Copyright (c) MotionMAE contributors. All rights reserved.
from einops import rearrange
from mmaction.registry import MODELS
from torch import Tensor

from ..utils.tubelet import TokenSplit
from .pixel_target import PixelTarget
from .values import TargetValues


@MODELS.register_module()
class TubeletDifferenceTarget(PixelTarget):
    """The first frame of a tubelet, and the others less the first.

    The target of MAE-DFER (Sun et al., ACM MM 2023, arXiv 2307.02227;
    ``--use_frame_diff_as_target``, sunlicai/MAE-DFER,
    ``engine_for_pretraining.py``): of a tubelet [f0, f1, ...] the signed
    [f0, f1 - f0, f2 - f0, ...], taken after the normalisation. Pixels and
    motion in one target of as many values as the pixels have; the difference
    never crosses the border of a tubelet. With the norm ``'tubelet'`` of a
    tubelet of two frames the difference is (f1 - f0) / std, and so is still
    small where nothing moves.

    K = C * frames * patch², as for :class:`PixelTarget`. What is
    reconstructed are pixels in [0, 1]: the differences are added up again.

    Args:
        **kwargs: As in :class:`TubeletTarget`.
    """

    label = 'frame and difference'

    def build(
        self, video: Tensor, index: Tensor, reference: Tensor | None = None
    ) -> TargetValues:
        """The target at some tokens.

        Args:
            video: (B, C, T, H, W), uint8.
            index: (B, N), int64.
            reference: As in the base class.

        Returns:
            The values, first frame and differences, with mean and deviation
            of the pixels that were normalised.
        """
        target = super().build(video, index, reference)
        frames = target.values.unflatten(-1, (self.tubelet_size, -1))
        frames[..., 1:, :].sub_(frames[..., :1, :])
        flat = target.values.flatten(2)
        return target._replace(
            sum=flat.sum(-1), square=flat.norm(dim=-1).square_()
        )

    def reconstruct(
        self,
        pred: Tensor,
        video: Tensor,
        split: TokenSplit,
        statistics: str = 'true',
    ) -> Tensor:
        """Pixels of first frames and differences; as in the base class."""
        frames = rearrange(
            pred.float(),
            'b m (c p0 p) -> b m c p0 p',
            c=self.video_channels,
            p0=self.tubelet_size,
        )
        frames = frames.clone()
        frames[..., 1:, :] += frames[..., :1, :]
        return super().reconstruct(frames.flatten(2), video, split, statistics)
