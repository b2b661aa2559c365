# Copyright (c) MotionMAE contributors. All rights reserved.
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmaction.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ...models import MotionMAE
from ...utils.choices import STATISTICS
from ...utils.errors import UsageError
from ...utils.provenance import unwrap
from ...utils.seeding import (
    SampleIndex,
    kept_random_state,
    seed_generators,
)
from ...utils.sharding import holds_parts
from ...visualization import draw_sheet, reconstruction_rows
from ...visualization.reconstruction import reconstruct


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Send reconstructions of a few training clips to the visualizer.

    What the model makes of the same clips under the same masks, again and
    again while it is trained: one picture for each clip, with rows of
    frames, goes to all of MMEngine's ``vis_backends`` (files, TensorBoard,
    WandB, ...) as ``reconstruction_N``, its step the iterations so far.

    The training does not notice: random states and the modes of all modules
    are put back. The main process does it alone. Models that are no
    :class:`MotionMAE`, and those whose weights are spread over processes,
    are passed over with a warning.

    Args:
        interval (int): Every how many epochs, or, with ``by_epoch=False``,
            iterations. Defaults to 10.
        by_epoch (bool): Defaults to True.
        num_clips (int): How many clips, evenly spread over the data set.
            Defaults to 4.
        seed (int): Of the clips and their masks. Defaults to 0.
        statistics (str): As in :meth:`MotionMAEHead.predict`: ``'true'`` or
            ``'visible'``. Defaults to ``'true'``.

    Raises:
        UsageError: If a number is below 1, or there are no such statistics.
    """

    # Before the timer, so that its time counts as that of a step, not as
    # waiting for the loader.
    priority = 'ABOVE_NORMAL'

    def __init__(
        self,
        interval: int = 10,
        by_epoch: bool = True,
        num_clips: int = 4,
        seed: int = 0,
        statistics: str = 'true',
    ) -> None:
        for name, value in (('interval', interval), ('num_clips', num_clips)):
            if value < 1:
                raise UsageError(
                    f'{name} of ReconstructionHook must be at least 1, not '
                    f'{value}.'
                )
        if statistics not in STATISTICS:
            raise UsageError(
                f'statistics of ReconstructionHook must be one of '
                f'{STATISTICS}, not {statistics!r}.'
            )
        self.interval = interval
        self.by_epoch = by_epoch
        self.num_clips = num_clips
        self.seed = seed
        self.statistics = statistics
        self._samples: list[dict[str, Any]] | None = None
        self._warned = False

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw, if it is time by epochs."""
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self._show(runner, runner.iter)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Draw, if it is time by iterations."""
        if not self.by_epoch and self.every_n_train_iters(
            runner, self.interval
        ):
            self._show(runner, runner.iter + 1)

    def _show(self, runner: Runner, step: int) -> None:
        if not is_main_process() or not self._can_run(runner.model):
            return
        model = unwrap(runner.model)
        with kept_random_state(), kept_modes(model):
            videos = reconstruct(model, self._load(runner), self.statistics)
        for i in range(len(videos['input'])):
            rows = reconstruction_rows(
                {name: video[i] for name, video in videos.items()},
                model.targets,
                self.statistics,
            )
            runner.visualizer.add_image(
                f'reconstruction_{i}', draw_sheet(rows), step=step
            )

    def _load(self, runner: Runner) -> list[dict[str, Any]]:
        """The clips, read once: all pictures show the same."""
        if self._samples is None:
            dataset = runner.train_dataloader.dataset
            number = min(self.num_clips, len(dataset))
            seed_generators(self.seed)
            samples = [
                dataset[SampleIndex(i * len(dataset) // number, self.seed)]
                for i in range(number)
            ]
            # With repeated augmentation a sample is a list of clips.
            self._samples = [
                sample[0] if isinstance(sample, list) else sample
                for sample in samples
            ]
        return self._samples

    def _can_run(self, model: nn.Module) -> bool:
        if (
            isinstance(unwrap(model), MotionMAE)
            and (
                not is_model_wrapper(model)
                or isinstance(model, DistributedDataParallel)
            )
            and not holds_parts(dict(model.named_parameters()))
        ):
            return True
        if not self._warned:
            self._warned = True
            print_log(
                'ReconstructionHook draws nothing: the model is a '
                f'{type(unwrap(model)).__name__} in a '
                f'{type(model).__name__}; it has to be a MotionMAE that each '
                'process holds whole.',
                logger='current',
                level=logging.WARNING,
            )
        return False


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Put each module's training or evaluation mode back at the end."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
