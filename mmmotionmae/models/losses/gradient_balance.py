# Copyright (c) MotionMAE contributors. All rights reserved.
"""Losses of several targets, made to pull equally hard.

Shapes: n losses.
"""

from collections.abc import Mapping, Sequence

import torch
from mmaction.registry import MODELS
from mmengine.dist import all_reduce
from torch import Tensor, nn

from ...utils.errors import UsageError

# The gradients are taken of losses this much larger, as a gradient scaler's
# are at first: in half precision they would underflow.
_SCALE = 2.0**16


@MODELS.register_module()
class GradientBalance(nn.Module):
    """Scale losses so that their gradients are equally large.

    At one tensor that all of them come from, the latent of the encoder: a
    target no longer drowns another there. Their weights are now shares of
    the gradient: its norm for each loss is proportional to the weight, and
    the sum of the norms is what the weights alone would give. Where a
    gradient is 0 or overflows, the average stays as it is; until each has
    been measured, the weights alone count.

    (GradNorm, Chen et al., ICML 2018, arXiv 1711.02257, balances the same
    norms by weights that it learns, and by how fast each loss falls. Here
    the weights are the ratio itself, of norms averaged over time.)

    It costs a backward pass through the decoder for each loss in every step.
    The host never waits for the device. It works under mixed precision, DDP
    (the norms are those of the batch of all processes), gradient
    accumulation, activation checkpointing and ``CompileBlocksHook``; under
    ``compile=True`` the graph breaks at it. FSDP and DeepSpeed are not
    tested.

    Args:
        names (Sequence[str]): Those of the losses, n. :class:`MotionMAEHead`
            fills it in.
        momentum (float): Share that the averages keep in each step, from 0
            to below 1. The first norm counts whole. Defaults to 0.9.

    Raises:
        ValueError: If the momentum is out of range.
    """

    norms: Tensor

    def __init__(self, names: Sequence[str], momentum: float = 0.9) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise UsageError(
                'The momentum of GradientBalance must be from 0 to below 1, '
                f'not {momentum}.'
            )
        self.names = tuple(names)
        self.momentum = momentum
        # In checkpoints, so that a run that is resumed goes on alike. 0: not
        # measured yet.
        self.register_buffer('norms', torch.zeros(len(self.names)))

    def forward(
        self,
        losses: Mapping[str, Tensor],
        weights: Mapping[str, float],
        latent: Tensor,
    ) -> dict[str, Tensor]:
        """Measure the gradients, and balance the weights.

        Args:
            losses: Scalars, not weighted.
            weights: Of each, at least 0.
            latent: Of any shape: what the losses come from, in their graph.
                If it has no gradient, in validation say, nothing is measured.

        Returns:
            The factor of each loss, a float32 scalar without gradient.
        """
        if self.training and latent.requires_grad:
            self._measure([losses[name] for name in self.names], latent)
        norms = self.norms.unbind()
        given = [weights[name] for name in self.names]
        total = sum(w * norm for w, norm in zip(given, norms, strict=True))
        share = total / (sum(given) or 1.0)
        known = self.norms.all()
        return {
            name: torch.where(known, w * share / norm, w)
            for name, w, norm in zip(self.names, given, norms, strict=True)
        }

    @torch.no_grad()
    def _measure(self, losses: Sequence[Tensor], latent: Tensor) -> None:
        """Add the norms of this step to their averages."""
        norms = []
        for loss in losses:
            (gradient,) = torch.autograd.grad(
                loss, latent, torch.full_like(loss, _SCALE), retain_graph=True
            )
            norms.append(gradient.float().norm())
        squares = torch.stack(norms).square_()
        # Each process has its own part of the batch.
        all_reduce(squares, 'mean')
        found = squares.sqrt_() / _SCALE
        averages = self.norms.lerp(found, 1 - self.momentum)
        averages = torch.where(self.norms == 0, found, averages)
        usable = found.isfinite() & (found > 0)
        self.norms.copy_(torch.where(usable, averages, self.norms))
