# Copyright (c) MotionMAE contributors. All rights reserved.
from typing import Any

import torch
from mmaction.registry import LOOPS
from mmaction.structures import ActionDataSample
from mmengine.runner import ValLoop
from mmengine.runner.amp import autocast

from ...evaluation.reconstruction_scoring import score_batch
from ...utils.provenance import unwrap
from ...utils.sharding import gathered


@LOOPS.register_module()
class ReconstructionValLoop(ValLoop):
    """Validate pre-training: R² of each target, on clips not trained on.

    With ``val_evaluator=dict(type='ReconstructionMetric')``, and a
    ``val_dataloader`` whose pipeline masks and packs as that of training.
    ``SeedSample`` at its start, and ``sampler=dict(type='SeededSampler',
    shuffle=False)``, make the same clips and masks each time.

    Args:
        oracle (bool): Whether to report beside each R² that of linear
            interpolation in time at the same masks, ``r2_NAME_oracle``, see
            :func:`interpolate_target`. Defaults to False.
        **kwargs: As in ``ValLoop``.
    """

    fp16: bool

    def __init__(self, *, oracle: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.oracle = oracle

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Validate on a batch."""
        self.runner.call_hook(
            'before_val_iter', batch_idx=idx, data_batch=data_batch
        )
        model = unwrap(self.runner.model)
        with gathered(model), autocast(enabled=self.fp16):
            found = score_batch(model, data_batch, self.oracle)
        outputs = []
        for sample, errors in zip(
            data_batch['data_samples'], found, strict=True
        ):
            output = ActionDataSample(metainfo=sample.metainfo)
            output.set_field(errors, 'token_errors')
            outputs.append(output)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(
            'after_val_iter',
            batch_idx=idx,
            data_batch=data_batch,
            outputs=outputs,
        )
