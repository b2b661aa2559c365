# Copyright (c) MotionMAE contributors. All rights reserved.
"""Labels of the videos that a classifier is trained and scored with."""

from collections.abc import Iterator
from typing import Any

from mmaction.evaluation import AccMetric
from mmaction.registry import METRICS
from mmengine.config import Config

from ..datasets.wrappers import single_datasets
from ..evaluation.metrics import AccReportMetric
from ..utils.errors import UsageError

# Of `AccMetric`: those of several labels.
_OF_SEVERAL = {'mean_average_precision', 'mmit_mean_average_precision'}


def check_labels(cfg: Config) -> None:
    """Have all labels checked when their lists are read.

    Sets ``num_classes`` of each :class:`RobustVideoDataset`, also within
    wrappers, whose labels are used: to train a ``cls_head``, or by an
    ``AccMetric``.

    Args:
        cfg: Changed in place.

    Raises:
        UsageError: If a data set has another number of classes than the head,
            or several labels for a video, and a metric is for one.
    """
    head = (cfg.get('model') or {}).get('cls_head') or {}
    num_classes = head.get('num_classes')
    if num_classes is None:
        return
    for stage in ('train', 'val', 'test'):
        loader = cfg.get(f'{stage}_dataloader')
        metrics = list(_accuracies(cfg.get(f'{stage}_evaluator')))
        if not loader or not (metrics or stage == 'train'):
            continue
        for part in single_datasets(loader.dataset):
            if part.get('type') != 'RobustVideoDataset':
                continue
            if part.setdefault('num_classes', num_classes) != num_classes:
                raise UsageError(
                    f'{stage}_dataloader has num_classes={part.num_classes}, '
                    f'but model.cls_head has {num_classes}.'
                )
            if part.get('multi_class'):
                _check_metrics(metrics, stage)


def _accuracies(evaluator: Any) -> Iterator[tuple[type, dict[str, Any]]]:
    """Class and config of each ``AccMetric``."""
    if isinstance(evaluator, (list, tuple)):
        for metric in evaluator:
            yield from _accuracies(metric)
    elif isinstance(evaluator, dict) and 'metrics' in evaluator:
        yield from _accuracies(evaluator['metrics'])
    elif isinstance(evaluator, dict):
        kind = evaluator.get('type')
        cls = METRICS.get(kind) if isinstance(kind, str) else kind
        if isinstance(cls, type) and issubclass(cls, AccMetric):
            yield cls, evaluator


def _check_metrics(
    metrics: list[tuple[type, dict[str, Any]]], stage: str
) -> None:
    for cls, metric in metrics:
        names = metric.get('metric_list', ('top_k_accuracy',))
        names = {names} if isinstance(names, str) else {*names}
        if issubclass(cls, AccReportMetric) or names - _OF_SEVERAL:
            raise UsageError(
                f'{stage}_evaluator has {cls.__name__} with accuracies of '
                'videos with one label, but these have several (multi_class): '
                "use dict(type='AccMetric', "
                "metric_list=('mean_average_precision',))."
            )
