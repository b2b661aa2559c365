# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Callable, Sequence
from typing import Any

from mmaction.registry import EVALUATOR
from mmengine.dist import broadcast_object_list, collect_results
from mmengine.evaluator import Evaluator


@EVALUATOR.register_module()
class VideoEvaluator(Evaluator):
    """Evaluate with any metrics, without the videos that cannot be read.

    :class:`RobustVideoDataset` with ``leave_out=True`` marks what stands in
    for a bad video; no metric counts it. How many there are is reported as
    ``left_out``.

    Args:
        metrics (dict | list[dict]): Metrics that keep one result for each
            sample, as ``AccMetric`` and ``DumpResults`` do.

    Raises:
        RuntimeError: If no video can be read, or a metric keeps another
            number of results.
    """

    def __init__(self, metrics: Any) -> None:
        super().__init__(metrics)
        self._left_out: list[bool] = []

    def process(
        self, data_samples: Sequence[Any], data_batch: Any = None
    ) -> None:
        """Hand a batch to the metrics."""
        super().process(data_samples, data_batch)
        self._left_out += [
            bool(sample.get('left_out')) for sample in data_samples
        ]

    def evaluate(self, size: int) -> dict:
        """Evaluate on the videos that could be read.

        Args:
            size: Number of samples of the data set.

        Returns:
            The metrics, and ``left_out``.
        """
        # In the order of the data set, on the main process; None elsewhere.
        flags = collect_results(self._left_out, size, 'cpu')
        self._left_out = []
        count = [None if flags is None else sum(flags)]
        broadcast_object_list(count)
        originals = [metric.compute_metrics for metric in self.metrics]
        if flags and any(flags):
            for metric, original in zip(self.metrics, originals, strict=True):
                metric.compute_metrics = _without(flags, original)
        try:
            metrics = super().evaluate(size)
        finally:
            for metric in self.metrics:
                vars(metric).pop('compute_metrics', None)
        return dict(metrics, left_out=count[0])


def _without(flags: list[bool], compute: Callable) -> Callable:
    """``compute_metrics`` on the results that are not flagged."""

    def compute_metrics(results: list) -> dict:
        if len(results) != len(flags):
            raise RuntimeError(
                f'{compute.__qualname__} has {len(results)} results for '
                f'{len(flags)} samples; VideoEvaluator cannot tell which of '
                'them are of videos that could not be read.'
            )
        kept = [
            result
            for result, flag in zip(results, flags, strict=True)
            if not flag
        ]
        if not kept:
            raise RuntimeError(
                f'None of the {len(flags)} videos to evaluate on can be read.'
            )
        return compute(kept)

    return compute_metrics
