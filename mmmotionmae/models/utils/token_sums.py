# Copyright (c) MotionMAE contributors. All rights reserved.
"""How much of the target a prediction explains.

Shapes: B clips, M masked tokens, K values of a token.
"""

from typing import NamedTuple

import torch
from torch import Tensor


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
