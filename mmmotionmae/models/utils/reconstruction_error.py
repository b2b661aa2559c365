# Copyright (c) MotionMAE contributors. All rights reserved.
"""Squared error of a prediction, and the variance that it explains.

Shapes: B clips, M masked tokens, K values of a token.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .precision import full_precision


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pred: Tensor, target: Tensor, overwrite: bool
    ) -> Tensor:
        error = torch.sub(pred, target, out=target if overwrite else None)
        ctx.save_for_backward(error)
        ctx.dtype = pred.dtype
        # A dot product: no squares in memory.
        return torch.einsum('bmk,bmk->bm', error, error)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (error,) = ctx.saved_tensors
        return (error * (2 * grad[..., None])).to(ctx.dtype), None, None


def squared_error(
    pred: Tensor, target: Tensor, overwrite: bool = False
) -> Tensor:
    """The squared error of each token, summed over its values.

    In float32, and with one tensor of that size kept for the backward pass.

    Args:
        pred: (B, M, K), any float dtype.
        target: (B, M, K), float32. Has no gradient.
        overwrite: Put the error in the place of the target, to save memory.

    Returns:
        (B, M), float32.
    """
    with full_precision(pred):
        return _SquaredError.apply(pred, target, overwrite)


def explained_variance(
    residual: Tensor,
    total: Tensor,
    square: Tensor,
    num_values: int,
    tokens: Tensor | None = None,
) -> Tensor:
    """R², the share of the target's variance that is explained.

    1 - sum (y - p)² / sum (y - mean(y))²: 1 is perfect, 0 is as good as the
    best constant. Where there is no variance at all it is 0.

    Args:
        residual: (B, M): sum of (y - p)² over the values of each token.
        total: (B, M): sum of y.
        square: (B, M): sum of y².
        num_values: K.
        tokens: (B, M), bool: those that count. Defaults to all.

    Returns:
        A float32 scalar.
    """
    with torch.no_grad():
        sums = torch.stack((total, square, residual)).double()
        if tokens is None:
            count: float | Tensor = residual.numel() * num_values
        else:
            sums = sums * tokens
            count = tokens.sum().clamp(min=1) * num_values
        total, square, residual = sums.flatten(1).sum(1)
        variance = square - total.square() / count
        # Below this, the variance is rounding error of the float32 sums.
        varies = variance > 1e-6 * square
        score = 1 - residual / torch.where(varies, variance, 1.0)
        return torch.where(varies, score, 0.0).float()
