# Copyright (c) MotionMAE contributors. All rights reserved.
import sys
import time
from pathlib import Path
from typing import Any

from mmaction.registry import HOOKS
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...utils.errors import UsageError
from ...utils.files import set_aside
from ...utils.progress import claim_folder
from ...utils.provenance import has_parts, make_card, unwrap
from ...utils.time_left import progress_bar


@HOOKS.register_module()
class SequenceResultsHook(Hook):
    """Keep the results of a test over sequences, and go on with them.

    For a ``SequenceDataset`` with ``SequenceMetric`` objects. Before the first
    sequence, ``card.json`` in the folder of the results says what makes them:
    weights, model, data set, versions. A later test in the same work dir
    labels only the sequences whose results are not complete, if its card says
    the same (versions, seed, date and the path of the checkpoint aside; what
    counts are the weights themselves).

    While the test runs, a bar shows frames and frames per second. Where the
    output is not a terminal, each sequence gets a line in the log instead.

    Args:
        name (str): Folder in the work dir for the results of those metrics
            that have no ``out_dir`` of their own. Defaults to ``'results'``.
        overwrite (bool): Start anew. The folder of earlier results is renamed
            to ``<name>-<date>``, nothing is deleted. Defaults to False.
    """

    def __init__(self, name: str = 'results', overwrite: bool = False) -> None:
        self.name = name
        self.overwrite = overwrite
        self._bar = progress_bar(0, ' frames', show=False)
        self._frames = 0  # of this rank
        self._seconds = 0.0

    def before_test(self, runner: Runner) -> None:
        """Find out what is done already; start the bar.

        Raises:
            UsageError: If there are results of something else.
        """
        dataset = runner.test_dataloader.dataset
        metrics = [
            metric
            for metric in runner.test_evaluator.metrics
            if hasattr(metric, 'is_finished')
        ]
        for metric in metrics:
            if metric.out_dir is None:
                metric.out_dir = Path(runner.work_dir) / self.name
        # One process looks; all go by what it finds.
        found: list[Any] = [set(), None]
        if is_main_process() or has_parts(runner):
            card = make_card(runner)
        if is_main_process():
            try:
                found[0] = self._open_results(card, runner, dataset, metrics)
            except UsageError as error:
                found[1] = str(error)
        broadcast_object_list(found)
        dataset.finished, problem = found
        if problem is not None:
            raise UsageError(problem)
        if dataset.finished:
            runner.logger.info(
                f'Going on: {len(dataset.finished)} of {len(dataset)} '
                'sequences are done.'
            )
            for other in runner.test_evaluator.metrics:
                if other not in metrics:
                    runner.logger.warning(
                        f'{type(other).__name__} gets no predictions of the '
                        'sequences that are done (--overwrite starts anew).'
                    )
        self._start_progress(runner, dataset)

    def _open_results(
        self,
        card: dict[str, Any],
        runner: Runner,
        dataset: Any,
        metrics: list[Any],
    ) -> set[str]:
        """Check, or write, the cards; returns what is finished."""
        sequences = [
            dataset.get_data_info(i)['sequence'] for i in range(len(dataset))
        ]
        for folder in dict.fromkeys(Path(m.out_dir) for m in metrics):
            if self.overwrite and folder.exists():
                earlier = set_aside(folder)
                runner.logger.info(f'What was in {folder} is now in {earlier}')
            different = claim_folder(
                folder,
                card,
                in_use=any(
                    metric.is_finished(sequence)
                    for metric in metrics
                    if Path(metric.out_dir) == folder
                    for sequence in sequences
                ),
            )
            if different:
                raise UsageError(
                    f'{folder} holds the results of something else '
                    f'({different}). Choose another --work-dir, or start '
                    'anew (--overwrite).'
                )
        return {
            sequence
            for sequence in sequences
            if all(metric.is_finished(sequence) for metric in metrics)
        }

    def _start_progress(self, runner: Runner, dataset: Any) -> None:
        infos = map(dataset.get_data_info, runner.test_dataloader.sampler)
        total = sum(
            len(info['frame_paths'])
            for info in infos
            if info['sequence'] not in dataset.finished
        )
        # Elsewhere MMEngine's log tells the time left.
        terminal = is_main_process() and sys.stderr.isatty()
        self._bar = progress_bar(total, ' frames', show=terminal and total > 0)
        self._frames, self._seconds = 0, 0.0
        self._start = time.monotonic()
        unwrap(runner.model).on_frame = self._count_frame

    def _count_frame(self) -> None:
        self._frames += 1
        self._bar.update()

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Show which sequence is labelled."""
        self._bar.set_postfix_str(data_batch['data_samples'][0].sequence)
        self._before = self._frames, time.monotonic()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Log a sequence that was labelled."""
        now = time.monotonic()
        frames, start = self._frames - self._before[0], self._before[1]
        if not frames:  # done by an earlier run
            return
        self._seconds = now - self._start
        if self._bar.disable:
            names = ', '.join(sample.sequence for sample in outputs)
            runner.logger.info(
                f'[{batch_idx + 1}/{len(runner.test_dataloader)}] {names}: '
                f'{frames} frames, {frames / (now - start):.2f} frames/s'
            )

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Log the speed of all processes together."""
        self.close(runner)
        unwrap(runner.model).on_frame = None
        ranks = all_gather_object((self._frames, self._seconds))
        frames = sum(rank[0] for rank in ranks)
        seconds = max(rank[1] for rank in ranks)
        if frames:
            runner.logger.info(
                f'{frames} frames in {seconds:.1f} s: '
                f'{frames / seconds:.2f} frames/s'
            )

    def close(self, runner: Runner) -> None:
        """End the line of the bar, also after an error."""
        self._bar.close()
