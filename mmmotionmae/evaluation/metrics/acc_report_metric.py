# Copyright (c) MotionMAE contributors. All rights reserved.
import csv
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmaction.evaluation import AccMetric, ConfusionMatrix
from mmaction.registry import METRICS
from mmengine.logging import MMLogger, print_log

from ...utils.files import complete_file, set_aside
from ..functional.accuracy import wilson_interval

FILENAME = 'per_class.csv'
COLUMNS = (
    'index',
    'name',
    'videos',
    'correct',
    'accuracy',
    'low',
    'high',
    'most_frequent_wrong_class',
    'its_count',
)


@METRICS.register_module()
class AccReportMetric(AccMetric):
    """MMAction2's ``AccMetric`` with confidence intervals and a class table.

    The values of ``AccMetric`` stay what they are. Beside each ``topK`` are
    ``topK_low`` and ``topK_high``, the ends of its confidence interval, see
    :func:`wilson_interval`. It covers the choice of the test videos, not that
    of the training run.

    ``per_class.csv`` has a line for each class, also for those without test
    videos: index, name, number of test videos, how many are recognised (the
    class of the highest score is theirs; the first of equal ones, as in
    ``mean1``), accuracy with its interval, and as which wrong class most are
    taken (the first of equal ones) and how many. The main process writes it
    after each evaluation, in place of the one before; a file that is not this
    object's own is renamed first.

    Args:
        classes (str | Path, optional): A file with the names of the classes,
            one on each line, as the tools for data write it. Defaults to
            None: no names. If the file is missing, a warning says so.
        out_dir (str | Path, optional): Where the table goes. Defaults to
            None: beside the log file of the run; without one there is no
            table.
        confidence (float): Between 0 and 1. Defaults to 0.95.
        **kwargs: As in ``AccMetric``.

    Raises:
        ValueError: If ``confidence`` is out of range, the file has another
            number of names than there are scores, or a video has several
            labels, several kinds of scores, or a label without a score.
    """

    def __init__(
        self,
        classes: str | os.PathLike[str] | None = None,
        out_dir: str | os.PathLike[str] | None = None,
        confidence: float = 0.95,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < confidence < 1:
            raise ValueError(
                f'confidence must be between 0 and 1; it is {confidence}.'
            )
        self.classes = None if classes is None else Path(classes)
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.confidence = confidence
        self._written: set[Path] = set()
        self._names: list[str] | None = None
        if self.classes is not None and self.classes.is_file():
            text = self.classes.read_text(encoding='utf-8')
            self._names = text.splitlines()
        elif self.classes is not None:
            print_log(
                f'There is no {self.classes}: classes have no names in the '
                'table.',
                logger='current',
                level=logging.WARNING,
            )

    def compute_metrics(self, results: list) -> dict:
        """Compute the metrics and write the table.

        Args:
            results: ``pred``, scores of all classes, and ``label`` of each
                video.

        Returns:
            The metrics of ``AccMetric``, and the intervals, between 0 and 1.
        """
        if any(
            isinstance(result['pred'], dict) or np.ndim(result['label'])
            for result in results
        ):
            raise ValueError(
                'AccReportMetric is for videos with one label and one kind '
                'of scores; use AccMetric for others.'
            )
        metrics = super().compute_metrics(results)
        for name, accuracy in [*metrics.items()]:
            if name.startswith('top'):
                hits = round(accuracy * len(results))
                metrics[f'{name}_low'], metrics[f'{name}_high'] = (
                    wilson_interval(hits, len(results), self.confidence)
                )
        self._write_table(results)
        return metrics

    def _write_table(self, results: list) -> None:
        scores = np.stack([result['pred'] for result in results])
        labels = np.array([result['label'] for result in results])
        num_classes = scores.shape[1]
        wrong = labels[(labels < 0) | (labels >= num_classes)]
        if len(wrong):
            raise ValueError(
                f'A video has the label {wrong[0]}, but the model has scores '
                f'for {num_classes} classes, from 0.'
            )
        if self._names is not None and len(self._names) != num_classes:
            raise ValueError(
                f'{self.classes} has {len(self._names)} names, but the model '
                f'has scores for {num_classes} classes.'
            )
        log_file = MMLogger.get_current_instance().log_file
        folder = self.out_dir
        if folder is None:
            if log_file is None:
                return
            folder = Path(log_file).parent
        path = folder / FILENAME
        if path.exists() and path not in self._written:
            earlier = set_aside(path)
            print_log(f'{path} is now {earlier}', logger='current')
        self._written.add(path)
        confusion = ConfusionMatrix.calculate(
            torch.from_numpy(scores.argmax(axis=1)),
            torch.from_numpy(labels),
            num_classes,
        ).numpy()
        with (
            complete_file(path) as temporary,
            temporary.open('w', encoding='utf-8', newline='') as file,
        ):
            writer = csv.writer(file, lineterminator='\n')
            writer.writerow(COLUMNS)
            for index in range(num_classes):
                name = '' if self._names is None else self._names[index]
                row = _class_row(confusion[index], index, self.confidence)
                writer.writerow([index, name, *row])
        print_log(f'Accuracy of each class: {path}', logger='current')


def _class_row(counts: np.ndarray, index: int, confidence: float) -> list:
    """The columns of a class after its name.

    Args:
        counts: As which classes its test videos are taken, ints, (C,).
        index: Of the class.
        confidence: Of the interval.
    """
    videos, correct = int(counts.sum()), int(counts[index])
    if not videos:
        return [0, 0, '', '', '', '', '']
    values = (correct / videos, *wilson_interval(correct, videos, confidence))
    others = counts.copy()
    others[index] = 0
    wrong = int(others.argmax())
    mistake = [wrong, int(others[wrong])] if others[wrong] else ['', 0]
    return [videos, correct, *(f'{value:.6f}' for value in values), *mistake]
