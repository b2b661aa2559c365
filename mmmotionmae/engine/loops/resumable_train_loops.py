# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator
from typing import Any

from mmaction.registry import LOOPS
from mmengine.dataset import InfiniteSampler
from mmengine.runner import (
    BaseLoop,
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
)
from torch import nn
from torch.utils.data import DataLoader

from ..resuming.position import VALIDATED
from ..samplers.skipping_batch_sampler import SkippingBatchSampler
from .micro_batches import batches_of_step, train_step


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """MMEngine's ``EpochBasedTrainLoop`` that goes on in mid-epoch.

    A run that is resumed from a checkpoint inside an epoch goes on with the
    next batch, bit for bit, and loads none of those before it again. A
    checkpoint of the end of an epoch is written before the validation that
    follows; one that was not finished is done first.

    Gradients are accumulated (``accumulative_counts``) within an epoch: the
    last step of an epoch takes the batches that are left, and their loss is
    divided by their number. So nothing is pending between epochs.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader or dict): Gives the batches of an epoch.
        micro_batches (int): In so many parts each batch is computed, for
            batches that are larger than a device can hold. Iterations,
            schedules and logs count batches. ``accumulative_counts`` of the
            optimiser wrapper counts parts, and is a multiple of it.
        **kwargs: As in ``EpochBasedTrainLoop``.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        micro_batches: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(runner, dataloader, **kwargs)
        self.micro_batches = micro_batches
        self._batches = SkippingBatchSampler.of(self.dataloader)
        self._done = 0  # batches of the first epoch, in an earlier run

    def run(self) -> nn.Module:
        """Train, from wherever the checkpoint was written."""
        batches_of_step(self.runner, self.micro_batches)
        self.runner.call_hook('before_train')
        self._done = self._iter - self._epoch * len(self.dataloader)
        if self._epoch and not self._done and not _is_validated(self):
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train with the batches that are left of an epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done, self._done = self._done, 0
        length = len(self.dataloader)
        parts = self.micro_batches
        _count_batches(self.runner, done * parts, length * parts)
        if done < length:
            self._batches.done = done
            for idx, data_batch in enumerate(self.dataloader, done):
                self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train with a batch."""
        if self.micro_batches == 1:
            super().run_iter(idx, data_batch)
            return
        _run_iter_in_parts(self, idx, data_batch)

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        if (
            self.runner.val_loop is not None
            and self._epoch >= self.val_begin
            and (
                self._epoch % self.val_interval == 0
                or self._epoch == self._max_epochs
            )
        ):
            self.runner.val_loop.run()


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """MMEngine's ``IterBasedTrainLoop`` that loads nothing a second time.

    MMEngine loads all batches of before again to find the place in the data
    where a resumed run goes on. Here the sampler starts there. Validation as
    in :class:`ResumableEpochLoop`; gradients are accumulated over all.

    Attributes:
        batches_done (int, optional): How far the data is, if that differs
            from the iteration; set before training.

    Arguments as in ``IterBasedTrainLoop``, and ``micro_batches`` as in
    :class:`ResumableEpochLoop`.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        micro_batches: int = 1,
        **kwargs: Any,
    ) -> None:
        self.micro_batches = micro_batches
        # One that is built comes back as it is.
        loader = runner.build_dataloader(
            dataloader,
            seed=runner.seed,
            diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False),
        )
        # MMEngine's would start to load the first batches right away.
        super().__init__(runner, _NotStarted(loader), **kwargs)
        self.dataloader = loader
        self._batches = SkippingBatchSampler.of(self.dataloader)
        self.batches_done: int | None = None

    def run(self) -> nn.Module:
        """Train, from wherever the checkpoint was written."""
        batches_of_step(self.runner, self.micro_batches)
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        parts = self.micro_batches
        _count_batches(
            self.runner, self._iter * parts, self._max_iters * parts
        )
        done = self._iter if self.batches_done is None else self.batches_done
        self.dataloader_iterator = self._load(done)
        if self._iter and not _is_validated(self):
            self._validate_if_due()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._validate_if_due()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_iter(self, data_batch: Any) -> None:
        """Train with a batch."""
        if self.micro_batches == 1:
            super().run_iter(data_batch)
            return
        _run_iter_in_parts(self, self._iter, data_batch)

    def _load(self, done: int) -> Iterator[Any]:
        """Load batches without end, from this one on."""
        sampler: Any = self._batches.inner
        sampler = getattr(sampler, 'sampler', sampler)
        epoch = 0
        if not isinstance(sampler, InfiniteSampler):
            epoch, done = divmod(done, len(self.dataloader))
        while True:
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
            self._batches.done, done = done, 0
            yield from self.dataloader
            epoch += 1

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        if (
            self.runner.val_loop is not None
            and self._iter >= self.val_begin
            and (
                self._iter % self.val_interval == 0
                or self._iter == self._max_iters
            )
        ):
            self.runner.val_loop.run()


class _NotStarted:
    """Stands in for a loader while MMEngine makes its iterator."""

    def __init__(self, loader: DataLoader) -> None:
        self.dataset = loader.dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _run_iter_in_parts(loop: Any, idx: int, data_batch: Any) -> None:
    """As the loops of MMEngine, with a batch in parts."""
    runner = loop.runner
    runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
    outputs = train_step(runner, data_batch, loop.micro_batches)
    runner.call_hook(
        'after_train_iter',
        batch_idx=idx,
        data_batch=data_batch,
        outputs=outputs,
    )
    loop._iter += 1


def _is_validated(loop: BaseLoop) -> bool:
    """Tell whether the checkpoint was written after its validation."""
    return loop.runner.message_hub.get_info(VALIDATED) == loop.runner.iter


def _count_batches(runner: Runner, done: int, total: int) -> None:
    """Let the accumulation of gradients end with the last of the batches."""
    wrapper: Any = runner.optim_wrapper
    if hasattr(wrapper, 'initialize_count_status'):
        # The model is for a warning, which the runner has given before.
        wrapper.initialize_count_status(nn.Identity(), done, total)
