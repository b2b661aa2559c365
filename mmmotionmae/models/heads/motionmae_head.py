# Copyright (c) MotionMAE contributors. All rights reserved.
"""Predictions, targets and losses.

Shapes: B clips, C channels, T frames, H W size, L tokens, M masked tokens,
E width of the decoder, P positions of a tubelet, K = C*P values of a token.
"""

import torch
from einops import rearrange
from mmaction.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..utils.linear import Linear
from ..utils.reconstruction_error import explained_variance, squared_error
from ..utils.target import NORMS, Target, build_target, in_pixel_range
from ..utils.tubelet import (
    TokenSplit,
    patchify,
    select_tubelets,
    split_mask,
    token_grid,
    unpatchify,
)

STATISTICS = ('true', 'visible')


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
        loss (dict): Config of the loss, a module that takes prediction,
            target (B, M, K) and the squared error of each token (B, M).
            Defaults to the mean squared error.
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
            {name: Linear(in_channels, values) for name in self.targets}
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
        mask: Tensor | TokenSplit,
    ) -> dict[str, Tensor]:
        """Losses, and the share of variance that is explained.

        Args:
            tokens: For each target the masked tokens (B, M, E).
            videos: For each target the video to predict (B, C, T, H, W), in
                levels (uint8, int16) or in units of the [0, 1] pixel range
                (float32).
            mask: (B, L), bool, True = masked, or what
                :func:`split_mask` makes of it.

        Returns:
            Float32 scalars: ``loss_pixel``, ``loss_motion``; ``r2_pixel``,
            ``r2_motion``, and ``r2_motion_moving`` over the moving tubelets
            alone (0 where nothing moves).
        """
        masked = split_mask(mask).masked
        losses, scores = {}, {}
        for name, pred in self(tokens).items():
            target = self._target(name, videos[name], masked)
            values = target.values.flatten(2)
            residual = squared_error(
                pred,
                values,
                overwrite=not getattr(self.loss_module, 'needs_values', True),
            )
            losses[f'loss_{name}'] = self.weights[name] * self.loss_module(
                pred, values, residual
            )
            sums = (residual, target.sum, target.square, values.size(-1))
            scores[f'r2_{name}'] = explained_variance(*sums)
            if name == 'motion':
                moving = target.energy > self.moving_threshold
                scores['r2_motion_moving'] = explained_variance(*sums, moving)
        return losses | scores

    def predict(
        self,
        tokens: dict[str, Tensor],
        videos: dict[str, Tensor],
        mask: Tensor | TokenSplit,
        statistics: str = 'true',
    ) -> dict[str, Tensor]:
        """Reconstruct whole videos.

        The visible tubelets are the true ones. At the masked ones stands the
        prediction, taken back to [0, 1] pixel units with mean and standard
        deviation, per channel, of

        * ``'true'``: the target itself. With ``norm='tubelet'`` every masked
          tubelet so gets its true mean and contrast, and pictures look better
          than the prediction is (VideoMAE does the same).
        * ``'visible'``: the visible tubelets alone, so that nothing of what
          was masked is shown. With ``norm='tubelet'`` every masked tubelet
          gets the average of their means and that of their deviations.

        With ``norm='none'`` there is nothing to take back, and the two are
        the same.

        Args:
            tokens: As in :meth:`loss`.
            videos: As in :meth:`loss`.
            mask: As in :meth:`loss`.
            statistics: ``'true'`` or ``'visible'``.

        Returns:
            For each target (B, C, T, H, W), float32.

        Raises:
            ValueError: If ``statistics`` is neither.
        """
        if statistics not in STATISTICS:
            raise ValueError(
                f'statistics must be one of {STATISTICS}, not {statistics!r}.'
            )
        split = split_mask(mask)
        masked = split.masked
        batch = torch.arange(len(masked), device=masked.device)[:, None]
        size = (self.tubelet_size, self.patch_size)
        reconstructions = {}
        for name, pred in self(tokens).items():
            video = videos[name]
            if statistics == 'true':
                target = self._target(name, video, masked)
                mean, std = target.mean, target.std
            else:
                mean, std = self._visible(name, video, split.visible)
            values = rearrange(
                pred.float(), 'b m (c p) -> b m c p', c=self.channels
            )
            tubelets = patchify(in_pixel_range(video), *size)
            tubelets[batch, masked] = values * std + mean
            t, h, w = video.shape[-3:]
            grid = token_grid(t, h, w, *size)
            reconstructions[name] = unpatchify(tubelets, grid, *size)
        return reconstructions

    def _visible(
        self, name: str, video: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the visible tubelets.

        Returns:
            They broadcast over (B, M, C, P).
        """
        norm = self.norms[name]
        if norm == 'tubelet':
            target = self._target(name, video, visible)
            mean, std = target.mean, target.std
            return mean.mean(1, keepdim=True), std.mean(1, keepdim=True)
        values = in_pixel_range(
            select_tubelets(video, visible, self.tubelet_size, self.patch_size)
        )
        if norm == 'none':
            return values.new_zeros(()), values.new_ones(())
        std, mean = torch.std_mean(values, dim=(1, 3), keepdim=True)
        return mean, std + 1e-6

    def _target(self, name: str, video: Tensor, masked: Tensor) -> Target:
        with torch.no_grad(), torch.autocast(video.device.type, enabled=False):
            return build_target(
                video,
                masked,
                self.norms[name],
                self.tubelet_size,
                self.patch_size,
            )
