# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmaction.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import (
    ConstantParamScheduler,
    LinearParamScheduler,
    OptimWrapper,
)
from mmengine.optim.scheduler.param_scheduler import INF
from mmengine.runner import EpochBasedTrainLoop, Runner

from ...utils.errors import UsageError
from ...utils.run_folder import finish_saving, sweep
from ..loops.micro_batches import batches_of_step
from ..loops.resumable_train_loops import ResumableEpochLoop, ResumableIterLoop
from ..resuming import schedules as scheduling
from ..resuming.interim import remove_interim
from ..resuming.position import (
    VALIDATED,
    Pace,
    move,
    start_of_accumulation,
)


@HOOKS.register_module()
class ResumeHook(Hook):
    """Let a resumed run go on as its config says, or say why it cannot.

    MMEngine takes position, optimiser and schedules from the checkpoint,
    whatever the config and the number of processes have become. Here

    * an unchanged run goes on bit for bit;
    * a schedule that differs from that of the checkpoint, or that the
      checkpoint has not got, is the one that counts, placed at the step that
      the run is at; the log says what has changed;
    * other numbers of the optimiser, such as the learning rate, stay those of
      the checkpoint, with a warning, unless the config has
      ``resume_optimizer='config'``;
    * with another batch, or number of processes, the run goes on at the same
      place in its data;
    * gradients that were pending are computed again;
    * an optimiser whose state is not in the checkpoint starts afresh, with a
      warning;
    * a checkpoint in mid-epoch is refused if the loop cannot go on there.

    It also removes files that a killed process has left half written, and
    warns, of any run, of schedules that do not end with the training.

    Raises:
        UsageError: Not here, but if the loop cannot go on.
    """

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._checkpoint: dict[str, Any] | None = None
        self._config_values: dict[str, list[dict[str, Any]]] = {}

    def before_run(self, runner: Runner) -> None:
        """Remove files that are half written."""
        if is_main_process():
            for path in sweep(Path(runner.work_dir)):
                runner.logger.info(f'Removed {path}: it was never completed')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what MMEngine does not hand on."""
        if not getattr(runner, '_resume', False):
            return
        self._config_values = {
            name: scheduling.base_values(wrapper)
            for name, wrapper in scheduling.wrappers_of(runner).items()
        }
        self._checkpoint = dict(
            meta=checkpoint['meta'],
            schedules=checkpoint.get('param_schedulers'),
            optimizer='optimizer' in checkpoint,
        )

    def before_train(self, runner: Runner) -> None:
        """Find the place to go on at."""
        if self._checkpoint is None:
            if runner.cfg.get('resume'):
                _say_learning_rate(runner)
            _warn_of_schedules(runner)
            return
        checkpoint, self._checkpoint = self._checkpoint, None
        moved = self._place_in_data(runner, checkpoint['meta'])
        if not checkpoint['optimizer']:
            moved = True
            runner.logger.warning(
                'The checkpoint holds no state of the optimiser '
                '(save_optimizer=False): it starts afresh, at iteration '
                f'{runner.iter} of its schedule, and the weights will be '
                'others than without interruption.'
            )
        forced = runner.cfg.get('resume_optimizer') == 'config'
        for name, wrapper in scheduling.wrappers_of(runner).items():
            self._settle_values(runner, wrapper, name, forced)
            saved = None
            if checkpoint['schedules'] is not None:
                saved = scheduling.of_name(checkpoint['schedules'], name)
            if not _has_built_schedules(runner):
                self._settle_schedules(
                    runner, wrapper, name, saved, moved or forced
                )
        _say_learning_rate(runner)
        _warn_of_schedules(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note how fast the run goes through its data."""
        checkpoint['meta']['pace'] = list(Pace.of(runner))

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Note that this validation is done."""
        runner.message_hub.update_info(VALIDATED, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Remove what only an interrupted run needs."""
        finish_saving(runner)
        remove_interim(runner)

    def _place_in_data(self, runner: Runner, meta: dict[str, Any]) -> bool:
        """Set iteration and data; tell whether that moved the schedules."""
        loop: Any = runner.train_loop
        iteration, now = runner.iter, Pace.of(runner)
        before = Pace.of_checkpoint(meta) or now
        other = bool(before.videos) and before.videos != now.videos
        epochs = isinstance(loop, EpochBasedTrainLoop)
        if epochs and (other or before.batches != now.batches):
            iteration = move(runner.epoch, runner.iter, before, now)
        elif other and isinstance(loop, ResumableIterLoop):
            loop.batches_done = runner.iter * before.videos // now.videos
        if other or before.batches != now.batches:
            _say_pace(runner, before, now, iteration)
        counts = batches_of_step(runner, getattr(loop, 'micro_batches', 1))
        start, end = 0, runner.max_iters
        if epochs:
            start, end = runner.epoch * now.batches, now.batches
        if counts > 1 and isinstance(
            loop, (ResumableEpochLoop, ResumableIterLoop)
        ):
            first = start + start_of_accumulation(
                iteration - start, end, counts
            )
            if first != iteration:
                runner.logger.warning(
                    f'The checkpoint was written after {iteration - first} '
                    f'of {counts} accumulated batches; these are computed '
                    'again.'
                )
                if getattr(loop, 'batches_done', None) is not None:
                    loop.batches_done -= iteration - first
                iteration = first
        if (
            epochs
            and not isinstance(loop, ResumableEpochLoop)
            and iteration != start
        ):
            raise UsageError(
                f'The checkpoint was written inside an epoch, after '
                f'{iteration - start} of its {now.batches} batches, and '
                f'{type(loop).__name__} cannot go on there: use train_cfg.'
                'type=ResumableEpochLoop.'
            )
        moved = iteration != runner.iter
        loop._iter = iteration
        return moved

    def _settle_values(
        self, runner: Runner, wrapper: OptimWrapper, name: str, forced: bool
    ) -> None:
        """Numbers of the optimiser: of the checkpoint, or of the config."""
        config = self._config_values[name]
        saved = scheduling.base_values(wrapper)
        if forced:
            scheduling.set_base_values(wrapper, config)
        changes = scheduling.describe_changes(saved, config)
        if changes and forced:
            runner.logger.info(f'As the config has it: {", ".join(changes)}.')
        elif changes:
            runner.logger.warning(
                'The config asks for other numbers than the run had, which '
                f'it keeps: {", ".join(changes)}. To go on with those of the '
                'config, add --cfg-options resume_optimizer=config.'
            )

    def _settle_schedules(
        self,
        runner: Runner,
        wrapper: OptimWrapper,
        name: str,
        saved: list[Any] | None,
        moved: bool,
    ) -> None:
        """Schedules: of the config, at the place where the run is."""
        current = [dict(group) for group in wrapper.param_groups]
        schedules = scheduling.build_at_start(runner, name)
        differences = ['it had none']
        if saved is not None:
            differences = scheduling.describe_differences(saved, schedules)
        if saved is not None and not (differences or moved):
            for group, before in zip(
                wrapper.param_groups, current, strict=True
            ):
                group.update(before)
            scheduling.put_back(schedules, saved)
        else:
            ends: Iterator[int] = iter(())
            if isinstance(runner.train_loop, EpochBasedTrainLoop):
                length = len(runner.train_dataloader)
                ends = iter(
                    range(length, runner.epoch * length + 1, length or 1)
                )
            scheduling.advance(schedules, wrapper, runner.iter, ends)
            if differences and (saved or schedules):
                runner.logger.warning(
                    'The schedule is not that of the checkpoint, but that of '
                    f'the config, from iteration {runner.iter} on: '
                    f'{"; ".join(differences)}.'
                )
        scheduling.install(runner, name, schedules)


def _has_built_schedules(runner: Runner) -> bool:
    """Tell whether the schedules are objects of the caller's, not a config."""
    cfg = runner.cfg.get('param_scheduler')
    return cfg is None and bool(runner.param_schedulers)


def _say_pace(runner: Runner, before: Pace, now: Pace, iteration: int) -> None:
    text = (
        f'An epoch had {before.batches} batches of {before.videos or "some"} '
        f'videos; now it has {now.batches} of {now.videos}. The run goes on '
        f'at the same place in its data, at iteration {iteration} instead of '
        f'{runner.iter}, and so does its schedule. The learning rate is not '
        'scaled.'
    )
    if before.videos and before.videos % runner.world_size == 0:
        text += (
            ' For the batch of before: train_dataloader.batch_size='
            f'{before.videos // runner.world_size}, or --keep-batch.'
        )
    runner.logger.warning(text)


def _say_learning_rate(runner: Runner) -> None:
    """Log what the optimiser has, whatever the config says."""
    for name, wrapper in scheduling.wrappers_of(runner).items():
        group = wrapper.param_groups[-1]  # MMEngine's base, if there are more
        peak = group.get('initial_lr', group['lr'])
        of = f' of {name}' if name else ''
        runner.logger.info(
            f'Learning rate{of}: {peak:.4g} before its schedule, now '
            f'{group["lr"]:.4g}.'
        )


def _warn_of_schedules(runner: Runner) -> None:
    """Warn of schedules that end too soon, or after the training.

    One that is too long is not seen in the losses: a cosine meant for 800
    epochs hardly falls in the first 10.
    """
    # What follows a warm-up without another schedule is meant to be constant.
    warm_ups = (ConstantParamScheduler, LinearParamScheduler)
    ends: dict[str, list[tuple[int, bool]]] = {}
    for name in scheduling.wrappers_of(runner):
        for schedule in scheduling.of_name(runner.param_schedulers, name):
            end = getattr(schedule, 'end', INF)
            if schedule.by_epoch and end < INF:
                end *= len(runner.train_dataloader)
            of = f'{name}.{schedule.param_name}'.removeprefix('.')
            ends.setdefault(of, []).append(
                (end, isinstance(schedule, warm_ups))
            )
    for of, last in ((of, max(several)) for of, several in ends.items()):
        end, is_warm_up = last
        if end < runner.max_iters and not is_warm_up:
            then = 'from there on it stays as it is'
        elif runner.max_iters < end < INF:
            then = 'it is cut off'
        else:
            continue
        runner.logger.warning(
            f'The schedule of {of} ends at iteration {end}, the training at '
            f'{runner.max_iters}: {then} (`end` in param_scheduler).'
        )
