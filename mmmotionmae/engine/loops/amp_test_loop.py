# Copyright (c) MotionMAE contributors. All rights reserved.
from contextlib import nullcontext
from typing import Any

import torch
from mmaction.registry import LOOPS
from mmengine.device import get_device
from mmengine.runner import TestLoop
from torch import nn

from ...utils.provenance import unwrap

_DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


@LOOPS.register_module()
class AmpTestLoop(TestLoop):
    """MMEngine's ``TestLoop`` in mixed precision of any kind.

    What the head gives is turned to float32 before it becomes scores.

    Args:
        amp (str, optional): ``'bf16'`` or ``'fp16'``. Defaults to None: as
            ``fp16`` of ``TestLoop`` says.
        **kwargs: As in ``TestLoop``.
    """

    fp16: bool

    def __init__(self, *, amp: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dtype = None if amp is None else _DTYPES[amp]
        # MMEngine's autocast takes the type of one around it, if it is on.
        self.fp16 = self.fp16 or amp is not None
        head = getattr(unwrap(self.runner.model), 'cls_head', None)
        if self._dtype is not None and head is not None:
            head.register_forward_hook(_to_float)

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Test a batch."""
        around: Any = nullcontext()
        if self._dtype is not None:
            around = torch.autocast(get_device(), self._dtype)
        with around:
            super().run_iter(idx, data_batch)


def _to_float(head: nn.Module, args: Any, scores: Any) -> Any:
    return scores.float() if isinstance(scores, torch.Tensor) else scores
