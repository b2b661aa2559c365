# Copyright (c) MotionMAE contributors. All rights reserved.
"""Predictions and losses of all targets.

Shapes: B clips, C channels, T frames, H W size, M masked tokens, E width of
the decoder, K values of a token, which may differ from target to target.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mmaction.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...utils.errors import UsageError
from ..targets import ReconstructionTarget, TargetValues, as_targets
from ..utils.linear import Linear
from ..utils.reconstruction_error import squared_error
from ..utils.tubelet import TokenSplit


class Comparison(NamedTuple):
    """A prediction beside its target.

    Attributes:
        truth: The target. Its ``values`` may have been overwritten.
        squared_error: (B, M), float32: of each token, summed over its values.
        loss: A float32 scalar, not weighted.
    """

    truth: TargetValues
    squared_error: Tensor
    loss: Tensor


@MODELS.register_module()
class MotionMAEHead(BaseModule):
    """Predict the targets at the masked tokens, and score them.

    Args:
        in_channels (int): Width E of the decoder. :class:`MotionMAE` fills
            it in.
        targets (dict[str, ReconstructionTarget], optional): What is
            predicted. :class:`MotionMAE` fills it in; it understands
            ``pixel_weight``, ``motion_weight``, ``pixel_norm``,
            ``motion_norm`` and ``moving_threshold`` here as shorthands for
            its own ``targets``. Defaults to pixels and motion, as the
            shorthands say.
        loss (dict): Config of the loss, a module that takes prediction and
            target (B, M, K) and the squared error of each token (B, M). If
            its attribute ``needs_values`` is there and False, it gets no
            target (None), whose memory the error then takes. Its result
            is multiplied by the weight of the target. Defaults to the mean
            squared error.
        balance (dict, optional): Config of :class:`GradientBalance`, by which
            the weights are balanced in each step. Defaults to None: they are
            constant.
        init_cfg (dict or list[dict], optional): Initialisation. Defaults to
            Xavier uniform for linear layers, as in VideoMAE.
        patch_size (int): Height and width of a tubelet, in pixels; only for
            shorthands, where no targets are given. Defaults to 16.
        tubelet_size (int): Frames of a tubelet. Likewise. Defaults to 2.
        channels (int): Channels C of a frame. Likewise. Defaults to 3.
        **shorthands: See ``targets``.

    Raises:
        ValueError: If a norm is unknown, a weight is negative, or all are 0.
    """

    def __init__(
        self,
        in_channels: int,
        targets: dict[str, ReconstructionTarget] | None = None,
        loss: dict = dict(type='MaskedReconstructionLoss'),
        balance: dict | None = None,
        init_cfg: dict | list[dict] | None = dict(
            type='Xavier', layer='Linear', distribution='uniform'
        ),
        patch_size: int = 16,
        tubelet_size: int = 2,
        channels: int = 3,
        **shorthands: Any,
    ) -> None:
        super().__init__(init_cfg)
        size = dict(
            channels=channels, tubelet_size=tubelet_size, patch_size=patch_size
        )
        # A plain dict: the model owns them.
        self.targets = as_targets(targets, size, head=shorthands)
        self.loss_module = MODELS.build(loss)
        self.balance: nn.Module | None = None
        if balance is not None:
            self.balance = MODELS.build(
                dict(type='GradientBalance') | balance,
                default_args=dict(names=[*self.targets]),
            )
        self.predictors = nn.ModuleDict(
            {
                name: Linear(in_channels, target.num_values)
                for name, target in self.targets.items()
            }
        )

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
        split: TokenSplit,
        latent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses, and the share of variance that is explained.

        Args:
            tokens: For each target the masked tokens (B, M, E).
            videos: For each target what :meth:`ReconstructionTarget.video`
                returns.
            split: Which tokens are masked.
            latent: What the encoder made, from which the tokens come. Needed
                if there is a ``balance``.

        Returns:
            Float32 scalars: for each target ``loss_NAME``, weighted, and its
            scores, such as ``r2_NAME`` and ``r2_NAME_moving``; if there is a
            ``balance``, ``weight_NAME``, too.
        """
        losses, scores = {}, {}
        evaluated = self.evaluate(tokens, videos, split)
        weights: dict[str, Any] = {
            name: target.weight * target.weight_factor
            for name, target in self.targets.items()
        }
        if self.balance is not None:
            terms = {name: found['loss'] for name, found in evaluated.items()}
            weights = self.balance(terms, weights, latent)
            scores = {f'weight_{name}': w for name, w in weights.items()}
        for name, found in evaluated.items():
            losses[f'loss_{name}'] = weights[name] * found.pop('loss')
            for score, value in found.items():
                kind, *rest = score.split('_', 1)
                scores['_'.join((kind, name, *rest))] = value
        return losses | scores

    def evaluate(
        self,
        tokens: dict[str, Tensor],
        videos: dict[str, Tensor],
        split: TokenSplit,
    ) -> dict[str, dict[str, Tensor]]:
        """Compare predictions with their targets.

        Args:
            tokens: As in :meth:`loss`.
            videos: As in :meth:`loss`.
            split: As in :meth:`loss`.

        Returns:
            For each target float32 scalars: ``loss``, not weighted, and what
            :meth:`ReconstructionTarget.scores` gives.
        """
        return {
            name: dict(
                loss=found.loss,
                **self.targets[name].scores(found.truth, found.squared_error),
            )
            for name, found in self.compare(tokens, videos, split)
        }

    def compare(
        self,
        tokens: dict[str, Tensor],
        videos: dict[str, Tensor],
        split: TokenSplit,
    ) -> Iterator[tuple[str, Comparison]]:
        """Compare predictions with their targets, token by token.

        Args:
            tokens: As in :meth:`loss`.
            videos: As in :meth:`loss`.
            split: As in :meth:`loss`.

        Yields:
            Names of targets, and how they compare.
        """
        needs_values = getattr(self.loss_module, 'needs_values', True)
        for name, pred in self(tokens).items():
            truth = self.targets[name].build(videos[name], split.masked)
            values = truth.values.flatten(2)
            if values.shape != pred.shape:
                raise UsageError(
                    f'Target {name!r} says that a token has {pred.size(-1)} '
                    f'values (num_values), but made {tuple(values.shape)} '
                    f'for predictions {tuple(pred.shape)}.'
                )
            error = squared_error(pred, values, overwrite=not needs_values)
            # Overwritten, the values are no target any more.
            loss = self.loss_module(
                pred, values if needs_values else None, error
            )
            yield name, Comparison(truth, error, loss)

    def predict(
        self,
        tokens: dict[str, Tensor],
        videos: dict[str, Tensor],
        split: TokenSplit,
        statistics: str = 'true',
    ) -> dict[str, Tensor]:
        """Reconstruct whole videos.

        Args:
            tokens: As in :meth:`loss`.
            videos: As in :meth:`loss`.
            split: As in :meth:`loss`.
            statistics: ``'true'`` or ``'visible'``, see
                :meth:`TubeletTarget.reconstruct`.

        Returns:
            For each target that is a video (B, C, T, H, W), float32.

        Raises:
            ValueError: If ``statistics`` is neither.
        """
        result = {}
        for name, pred in self(tokens).items():
            video = self.targets[name].reconstruct(
                pred, videos[name], split, statistics
            )
            if video is not None:
                result[name] = video
        return result
