# Copyright (c) MotionMAE contributors. All rights reserved.
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor, nn

from ..utils.precision import full_precision

_CRITERIA = {
    'L2': F.mse_loss,
    'L1': F.l1_loss,
    'smooth_L1': F.smooth_l1_loss,
}


@MODELS.register_module()
class MaskedReconstructionLoss(nn.Module):
    """Mean error over all values of the masked tokens.

    Computed in float32 whatever the precision of the model.

    Args:
        criterion (str): ``'L2'`` (mean squared error, best in the paper),
            ``'L1'`` or ``'smooth_L1'`` (beta 1). Defaults to ``'L2'``.
        loss_weight (float): Factor of the loss. Defaults to 1.

    Raises:
        ValueError: If the criterion is none of these.
    """

    def __init__(
        self, criterion: str = 'L2', loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        if criterion not in _CRITERIA:
            raise ValueError(
                f'criterion must be one of {list(_CRITERIA)}, '
                f'not {criterion!r}.'
            )
        self.criterion = criterion
        self.loss_weight = loss_weight

    @property
    def needs_values(self) -> bool:
        """bool: Whether the squared error alone is not enough.

        If not, :class:`MotionMAEHead` gives no target, and saves its memory.
        A loss without this attribute is given all.
        """
        return self.criterion != 'L2'

    def forward(
        self,
        pred: Tensor,
        target: Tensor | None,
        squared_error: Tensor | None = None,
    ) -> Tensor:
        """Compare prediction and target at the masked tokens.

        Args:
            pred: (B, M, K), any float dtype.
            target: (B, M, K), float32. None unless :attr:`needs_values`.
            squared_error: (B, M): the squared error of each token, summed
                over its values, if it is known already. ``'L2'`` is its mean.

        Returns:
            A float32 scalar.

        Raises:
            ValueError: If what the criterion needs is not given.
        """
        with full_precision(pred):
            if self.criterion == 'L2' and squared_error is not None:
                loss = squared_error.sum() / pred.numel()
            elif target is None:
                raise ValueError(
                    f'The criterion {self.criterion!r} needs the target.'
                )
            else:
                criterion = _CRITERIA[self.criterion]
                loss = criterion(pred.float(), target.float())
            return self.loss_weight * loss
