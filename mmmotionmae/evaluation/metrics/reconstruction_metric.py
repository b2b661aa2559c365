# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Sequence
from typing import Any

from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric

from ..reconstruction_scoring import explained_shares


@METRICS.register_module()
class ReconstructionMetric(BaseMetric):
    """R² of what a masked autoencoder reconstructs.

    Goes with :class:`ReconstructionValLoop`, which adds the errors to the
    data samples. What it reports is that of :func:`explained_shares`.

    Args:
        **kwargs: As in ``BaseMetric``.
    """

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Keep the errors of a batch.

        Args:
            data_batch: Not used.
            data_samples: With ``token_errors``.
        """
        self.results.extend(sample['token_errors'] for sample in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """R² over all clips.

        Args:
            results: Errors of each sample.
        """
        return explained_shares(results)
