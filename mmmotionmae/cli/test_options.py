# Copyright (c) MotionMAE contributors. All rights reserved.
"""Changes that the flags of ``tools/test.py`` make to a config.

Every function raises :class:`UsageError` with one clear sentence where a
user's input is at fault.
"""

import os.path as osp
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import FlexibleRunner, Runner

from ..checkpoints import refuse_missing_checkpoint
from ..utils.errors import UsageError


def check_test(cfg: Config) -> None:
    """Make sure that there is something to test.

    Raises:
        UsageError: If not, as in a config of pre-training.
    """
    missing = [
        name
        for name in ('test_dataloader', 'test_cfg', 'test_evaluator')
        if cfg.get(name) is None
    ]
    if missing:
        raise UsageError(
            f'The config has no {", no ".join(missing)}: there is nothing to '
            'test. What a pre-training has learned is measured by fine-tuning '
            'or probing it (configs/recognition, configs/probing), or by '
            'tools/evaluate_features.py.'
        )


def set_checkpoint(cfg: Config, checkpoint: str | None) -> None:
    """Test the weights of this checkpoint.

    Args:
        cfg: Changed in place.
        checkpoint: Path or URL. ``'none'``, or None: those that the config
            sets up itself, see :func:`init_weights`.

    Raises:
        UsageError: If there is no such file.
    """
    cfg.resume = False
    if checkpoint in (None, 'none'):
        return
    refuse_missing_checkpoint(checkpoint)
    cfg.load_from = checkpoint


def init_weights(
    runner: Runner | FlexibleRunner, checkpoint: str | None
) -> None:
    """Set up the weights that are tested without a checkpoint.

    They are random or those of an ``init_cfg``; MMEngine's ``Runner`` sets
    them up before a training only, ``FlexibleRunner`` before each test, with
    a checkpoint, too. ``load_from`` of the config, if any, comes on top.

    Args:
        runner: Before its test.
        checkpoint: As for :func:`set_checkpoint`. None is enough for a model
            without weights only.

    Raises:
        UsageError: If there is no checkpoint, but weights.
    """
    is_flexible = isinstance(runner, FlexibleRunner)
    if is_flexible:  # else it does so in `test`
        runner.model = runner.strategy.build_model(runner.model)
    if checkpoint is None and list(runner.model.parameters()):
        raise UsageError(
            'The model has weights: name a checkpoint, or "none" for those '
            'that the config sets up itself (random, init_cfg, load_from).'
        )
    is_needed = checkpoint in (None, 'none')
    if is_flexible:
        runner.cfg.init_weights_for_test_or_val = is_needed
    elif is_needed:
        runner._init_model_weights()


def set_visualization(
    cfg: Config,
    show_dir: str | None,
    show: bool,
    interval: int,
    wait_time: float,
) -> None:
    """Draw the predictions of a test.

    Args:
        cfg: Changed in place.
        show_dir: Where pictures go. None: nowhere.
        show: Whether to open windows.
        interval: Every how many samples.
        wait_time: How long a window stays, in seconds.
    """
    if show_dir is None and not show:
        return
    hook = cfg.default_hooks.get('visualization') or dict(
        type='VisualizationHook'
    )
    hook.update(
        enable=True,
        out_dir=show_dir,
        show=show,
        interval=interval,
        wait_time=wait_time,
    )
    cfg.default_hooks.visualization = hook


def set_dump(cfg: Config, path: str | None, overwrite: bool) -> None:
    """Write the predictions of a test to a pickle file.

    A test that was interrupted goes on, see :class:`ResumableTestLoop`;
    unless it has a loop, a sampler or a way to go on (that of
    ``SequenceResultsHook``) of its own, which then stays.

    Raises:
        UsageError: If the path does not end in .pkl or .pickle, or exists.
    """
    if path is None:
        return
    if not path.endswith(('.pkl', '.pickle')):
        raise UsageError(
            f'--dump writes a pickle: {path!r} must end in .pkl or .pickle.'
        )
    if osp.exists(path) and not overwrite:
        raise UsageError(
            f'{path!r} exists already; choose another name for '
            '--dump, or write over it (--overwrite).'
        )
    evaluator = cfg.test_evaluator
    own = 'metrics' in evaluator  # an evaluator, not just metrics
    metrics = evaluator.metrics if own else evaluator
    metrics = list(metrics) if isinstance(metrics, Sequence) else [metrics]
    metrics.append(dict(type='CompleteDumpResults', out_file_path=path))
    if own:
        evaluator.metrics = metrics
    else:
        cfg.test_evaluator = metrics
    if _may_go_on(cfg):
        cfg.test_cfg.update(
            type='ResumableTestLoop', out_file=path, overwrite=overwrite
        )


def _may_go_on(cfg: Config) -> bool:
    """Tell whether a test can be made resumable."""
    loader = cfg.test_dataloader
    sampler = loader.get('sampler') or {}
    return (
        cfg.get('test_cfg') is not None
        and cfg.test_cfg.get('type', 'TestLoop') in ('TestLoop', 'AmpTestLoop')
        and sampler.get('type') == 'DefaultSampler'
        and sampler.get('shuffle') is False
        and not loader.get('batch_sampler')
        and not loader.get('num_batch_per_epoch')
        and not _sequence_results_hooks(cfg)
    )


def set_overwrite(cfg: Config) -> None:
    """Let a test over sequences start anew, see ``SequenceResultsHook``."""
    for hook in _sequence_results_hooks(cfg):
        hook.overwrite = True


def _sequence_results_hooks(cfg: Config) -> list[Any]:
    hooks = [*cfg.get('default_hooks', {}).values()]
    hooks += cfg.get('custom_hooks') or []
    return [
        hook
        for hook in hooks
        if hook and hook.get('type') == 'SequenceResultsHook'
    ]


def set_test_amp(cfg: Config, dtype: str | None) -> None:
    """Test in mixed precision, see :class:`AmpTestLoop`.

    Args:
        cfg: Changed in place.
        dtype: ``'bf16'``, or ``'fp16'`` (on a GPU only). None: as the config
            says.

    Raises:
        UsageError: If the config has a test loop of its own, or for fp16 on
            a CPU.
    """
    if dtype is None:
        return
    loop = (cfg.get('test_cfg') or {}).get('type', 'TestLoop')
    if loop != 'TestLoop':
        raise UsageError(
            f'--amp works with TestLoop, but the config has {loop!r}.'
        )
    if dtype == 'fp16' and get_device() == 'cpu':
        raise UsageError('--amp fp16 needs a GPU; use --amp bf16 on a CPU.')
    cfg.test_cfg.update(type='AmpTestLoop', amp=dtype)


def check_views(cfg: Config) -> None:
    """Make sure that views can be bounded, if the config bounds them.

    Raises:
        UsageError: If ``max_testing_views`` is not a number, or set for
            batches of several videos; ``Recognizer3D`` would fail in the run.
    """
    views = (cfg.get('model', {}).get('test_cfg') or {}).get(
        'max_testing_views'
    )
    if not views:
        return
    if not isinstance(views, int) or views < 1:
        raise UsageError(
            'model.test_cfg.max_testing_views is a number of views, at least '
            f'1; it is {views!r}.'
        )
    batch_size = cfg.test_dataloader.get('batch_size', 1)
    if batch_size > 1:
        raise UsageError(
            f'model.test_cfg.max_testing_views={views} bounds the views of '
            f'one video, but a batch has {batch_size} videos: set '
            'test_dataloader.batch_size=1, or max_testing_views=None.'
        )
