# Copyright (c) MotionMAE contributors. All rights reserved.
"""Predictions, targets and losses.

Shapes: B clips, C channels, T frames, H W size, L tokens, M masked tokens,
E width of the decoder, P positions of a tubelet, K = C*P values of a token.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from mmaction.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..utils.tubelet import (
    patchify,
    select_tubelets,
    split_mask,
    token_grid,
    unpatchify,
)

NORMS = ('tubelet', 'clip', 'none')


class Target(NamedTuple):
    """A target at the masked tokens, and how it was normalised.

    Attributes:
        values: (B, M, C, P), normalised.
        mean: Broadcasts over ``values``.
        std: Likewise.
        energy: (B, M): root mean square of each tubelet, not normalised.
    """

    values: Tensor
    mean: Tensor
    std: Tensor
    energy: Tensor


def build_target(
    video: Tensor,
    masked: Tensor,
    norm: str,
    tubelet_size: int,
    patch_size: int,
) -> Target:
    """The normalised target at the masked tokens.

    Mean and standard deviation (unbiased) are taken per channel and the
    result is (x - mean) / (std + 1e-6), as VideoMAE's pre-training engine has
    it for ``norm='tubelet'``.

    Args:
        video: (B, C, T, H, W), float32: the pixels or the motion of a clip.
        masked: (B, M), int64: the masked tokens.
        norm: ``'tubelet'``: statistics of each tubelet. ``'clip'``:
            statistics of the whole clip. ``'none'``: as it is.
        tubelet_size: Frames of a tubelet.
        patch_size: Height and width of a tubelet, in pixels.

    Returns:
        The target and its statistics.
    """
    values = select_tubelets(video, masked, tubelet_size, patch_size)
    flat = values.flatten(2)
    energy = flat.norm(dim=-1) / flat.size(-1) ** 0.5
    if norm == 'none':
        zero, one = values.new_zeros(()), values.new_ones(())
        return Target(values, zero, one, energy)
    if norm == 'tubelet':
        mean = values.mean(-1, keepdim=True)
        centred = values - mean
        # A dot product; several times faster than `var`.
        var = torch.einsum('bmcp,bmcp->bmc', centred, centred)
        std = rearrange(var / (values.size(-1) - 1), 'b m c -> b m c 1').sqrt()
    else:
        std, mean = (
            rearrange(x, 'b c -> b 1 c 1')
            for x in torch.std_mean(video, dim=(2, 3, 4))
        )
        centred = values - mean
    std = std + 1e-6
    return Target(centred / std, mean, std, energy)


class TokenSums(NamedTuple):
    """Sums over the K values of each token, from which R² follows.

    Attributes:
        target: (B, M), float64: sum of y.
        square: (B, M), float64: sum of y².
        residual: (B, M), float64: sum of (y - p)².
        values: K.
    """

    target: Tensor
    square: Tensor
    residual: Tensor
    values: int

    @classmethod
    def of(cls, pred: Tensor, target: Tensor) -> 'TokenSums':
        """Sum up.

        Args:
            pred: p, (B, M, K).
            target: y, (B, M, K).
        """
        with torch.no_grad(), torch.autocast(pred.device.type, enabled=False):
            target = target.float()
            error = target - pred.float()
            # Dot products: one pass, and no squares in memory.
            square, residual = (
                torch.einsum('bmk,bmk->bm', x, x) for x in (target, error)
            )
            return cls(
                target.sum(-1).double(),
                square.double(),
                residual.double(),
                target.size(-1),
            )

    def explained_variance(self, tokens: Tensor | None = None) -> Tensor:
        """R², the share of the target's variance that is explained.

        1 - sum (y - p)² / sum (y - mean(y))²: 1 is perfect, 0 is as good as
        the best constant. Where there is no variance at all it is 0.

        Args:
            tokens: (B, M), bool: those that count. Defaults to all.

        Returns:
            A float32 scalar.
        """
        keep = (
            torch.ones_like(self.target)
            if tokens is None
            else tokens.to(self.target)
        )
        count = keep.sum().clamp(min=1) * self.values
        total = (keep * self.square).sum() - (
            keep * self.target
        ).sum().square() / count
        residual = (keep * self.residual).sum()
        # Below this, the total is rounding error of the float32 sums.
        varies = total > 1e-6 * (keep * self.square).sum()
        score = 1 - residual / torch.where(varies, total, 1.0)
        return torch.where(varies, score, 0.0).float()


@MODELS.register_module()
class MotionMAEHead(BaseModule):
    """Predict pixels and motion of the masked tokens, and score them.

    A target of weight 0 is not predicted at all: with ``motion_weight=0``
    this is the head of VideoMAE, at its cost.

    Args:
        in_channels (int): Width E of the decoder. :class:`MotionMAE` fills
            it in.
        patch_size (int): Height and width of a tubelet, in pixels.
            :class:`MotionMAE` fills it in from the encoder. Defaults to 16.
        tubelet_size (int): Frames of a tubelet. Likewise. Defaults to 2.
        channels (int): Channels C of a frame. Likewise. Defaults to 3.
        pixel_weight (float): Weight of the pixel loss. Defaults to 1.
        motion_weight (float): Weight of the motion loss. Defaults to 1 (1:1
            is best in the paper).
        pixel_norm (str): Normalisation of the pixels: ``'tubelet'``,
            ``'clip'`` or ``'none'``, see :func:`build_target`. Defaults to
            ``'tubelet'``.
        motion_norm (str): Normalisation of the motion. ``'tubelet'`` blows
            the sensor noise of a static tubelet up to unit variance.
            Defaults to ``'tubelet'``.
        moving_threshold (float): A tubelet counts as moving if the root mean
            square of its motion is above this, in units of the [0, 1] pixel
            range. Only for the log. Defaults to 0.02, about 5 grey levels.
        loss (dict): Config of the loss. Defaults to the mean squared error.
        init_cfg (dict or list[dict], optional): Initialisation. Defaults to
            Xavier uniform for linear layers, as in VideoMAE.

    Raises:
        ValueError: If a norm is unknown, a weight is negative, or both
            weights are 0.
    """

    def __init__(
        self,
        in_channels: int,
        patch_size: int = 16,
        tubelet_size: int = 2,
        channels: int = 3,
        pixel_weight: float = 1.0,
        motion_weight: float = 1.0,
        pixel_norm: str = 'tubelet',
        motion_norm: str = 'tubelet',
        moving_threshold: float = 0.02,
        loss: dict = dict(type='MaskedReconstructionLoss'),
        init_cfg: dict | list[dict] | None = dict(
            type='Xavier', layer='Linear', distribution='uniform'
        ),
    ) -> None:
        super().__init__(init_cfg)
        for norm in (pixel_norm, motion_norm):
            if norm not in NORMS:
                raise ValueError(
                    f'a norm must be one of {NORMS}, not {norm!r}.'
                )
        self.weights = dict(pixel=pixel_weight, motion=motion_weight)
        self.targets = self.targets_of(pixel_weight, motion_weight)
        self.norms = dict(pixel=pixel_norm, motion=motion_norm)
        self.patch_size = patch_size
        self.tubelet_size = tubelet_size
        self.channels = channels
        self.moving_threshold = moving_threshold
        self.loss_module = MODELS.build(loss)
        values = tubelet_size * patch_size**2 * channels
        self.predictors = nn.ModuleDict(
            {name: nn.Linear(in_channels, values) for name in self.targets}
        )

    @staticmethod
    def targets_of(
        pixel_weight: float = 1.0, motion_weight: float = 1.0
    ) -> tuple[str, ...]:
        """The targets that these weights switch on."""
        weights = dict(pixel=pixel_weight, motion=motion_weight)
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(
                'pixel_weight and motion_weight must not be negative, nor '
                f'both 0; got {pixel_weight} and {motion_weight}.'
            )
        return tuple(name for name, weight in weights.items() if weight > 0)

    def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict the normalised targets.

        Args:
            tokens: For each target the masked tokens (B, M, E).

        Returns:
            For each target (B, M, K).
        """
        return {
            name: predict(tokens[name])
            for name, predict in self.predictors.items()
        }

    def loss(
        self,
        tokens: dict[str, Tensor],
        videos: dict[str, Tensor],
        mask: Tensor,
    ) -> dict[str, Tensor]:
        """Losses, and the share of variance that is explained.

        Args:
            tokens: For each target the masked tokens (B, M, E).
            videos: For each target the video to predict (B, C, T, H, W),
                float32, in [0, 1] pixel units.
            mask: (B, L), bool, True = masked.

        Returns:
            Float32 scalars: ``loss_pixel``, ``loss_motion``; ``r2_pixel``,
            ``r2_motion``, and ``r2_motion_moving`` over the moving tubelets
            alone (0 where nothing moves).
        """
        _, masked = split_mask(mask)
        losses, scores = {}, {}
        for name, pred in self(tokens).items():
            target = self._target(name, videos[name], masked)
            values = target.values.flatten(2)
            losses[f'loss_{name}'] = self.weights[name] * self.loss_module(
                pred, values
            )
            sums = TokenSums.of(pred, values)
            scores[f'r2_{name}'] = sums.explained_variance()
            if name == 'motion':
                moving = target.energy > self.moving_threshold
                scores['r2_motion_moving'] = sums.explained_variance(moving)
        return losses | scores

    def predict(
        self,
        tokens: dict[str, Tensor],
        videos: dict[str, Tensor],
        mask: Tensor,
    ) -> dict[str, Tensor]:
        """Reconstruct whole videos.

        The visible tubelets are the true ones. At the masked ones stands the
        prediction, taken back to [0, 1] pixel units with the *true*
        statistics of the target: with ``norm='tubelet'`` every masked
        tubelet so gets its true mean and contrast, and pictures look better
        than the prediction is (VideoMAE does the same).

        Args:
            tokens: As in :meth:`loss`.
            videos: As in :meth:`loss`.
            mask: As in :meth:`loss`.

        Returns:
            For each target (B, C, T, H, W), float32.
        """
        _, masked = split_mask(mask)
        batch = torch.arange(len(mask), device=mask.device)[:, None]
        size = (self.tubelet_size, self.patch_size)
        reconstructions = {}
        for name, pred in self(tokens).items():
            video = videos[name]
            target = self._target(name, video, masked)
            values = rearrange(
                pred.float(), 'b m (c p) -> b m c p', c=self.channels
            )
            tubelets = patchify(video, *size)
            tubelets[batch, masked] = values * target.std + target.mean
            t, h, w = video.shape[-3:]
            grid = token_grid(t, h, w, *size)
            reconstructions[name] = unpatchify(tubelets, grid, *size)
        return reconstructions

    def _target(self, name: str, video: Tensor, masked: Tensor) -> Target:
        with torch.no_grad(), torch.autocast(video.device.type, enabled=False):
            return build_target(
                video.float(),
                masked,
                self.norms[name],
                self.tubelet_size,
                self.patch_size,
            )
