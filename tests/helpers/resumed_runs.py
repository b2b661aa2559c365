# Copyright (c) MotionMAE contributors. All rights reserved.
"""Small trainings that are ended and resumed, and what is left of them.

``train`` is a fixture of ``conftest.py``.
"""

import importlib.util
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'configs/demo'
PRETRAIN = DEMO / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'
FINETUNE = DEMO / 'vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py'


def load_tool(name):
    spec = importlib.util.spec_from_file_location(
        f'{name}_tool', ROOT / 'tools' / f'{name}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRAIN = load_tool('train')


class Interruption(Hook):
    """Ends the run in the middle of an epoch, as Ctrl-C does."""

    def __init__(self, epoch):
        self.epoch = epoch

    def after_train_iter(self, runner, batch_idx, **kwargs):
        if runner.epoch == self.epoch and batch_idx == 1:
            raise KeyboardInterrupt


class Keeper(Hook):
    """Keeps the runner, also if `train` raises."""

    runner = None

    def before_train(self, runner):
        self.runner = runner


class Recorder(Hook):
    """Keeps what the model was given, and what came of it."""

    def __init__(self):
        self.batches, self.losses = [], []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.batches.append((runner.epoch, data_batch))
        self.losses.append(outputs['loss'].item())

    def of_epoch(self, epoch):
        """Video -> its mask in this epoch."""
        return {
            Path(sample.metainfo['filename']).name: sample.mask
            for e, batch in self.batches
            if e == epoch
            for sample in batch['data_samples']
        }


@pytest.fixture
def train(tmp_path, monkeypatch, shapes_dir):
    monkeypatch.setenv('DEMO_DATA', str(shapes_dir))
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(tmp_path)

    def run(
        config,
        work_dir,
        *flags,
        epochs=2,
        hooks=(),
        workers=0,
        options=(),
        validate=False,
    ):
        given = options
        options = [
            # Runs of the same second would share one message hub.
            f'experiment_name={uuid.uuid4().hex}',
            *([f'train_cfg.max_epochs={epochs}'] if epochs else []),
            'train_dataloader.batch_size=4',
            'default_hooks.checkpoint.interval=1',
            'default_hooks.checkpoint.save_optimizer=True',
            'log_level=ERROR',
        ]
        if workers:
            options += [
                f'train_dataloader.num_workers={workers}',
                'train_dataloader.persistent_workers=True',
            ]
        argv = [str(config), '--work-dir', work_dir, *flags]
        argv += [] if validate else ['--no-validate']
        argv += ['--cfg-options', *options, *given]
        keeper = Keeper()
        try:
            return TRAIN.train(TRAIN.parse_args(argv), [keeper, *hooks])
        finally:  # left to the garbage collector, that takes 5 s a worker
            if keeper.runner is not None:
                iterator = keeper.runner.train_dataloader._iterator
                if iterator is not None:
                    iterator._shutdown_workers()

    return run


def state_of(runner):
    """Everything that training changes, as one flat dict."""
    flat = {}

    def walk(path, value):
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f'{path}.{key}', item)
        elif isinstance(value, (list, tuple)):
            walk(path, dict(enumerate(value)))
        else:
            flat[path] = value

    walk('model', runner.model.state_dict())
    walk('optimizer', runner.optim_wrapper.state_dict())
    walk('schedulers', [s.state_dict() for s in runner.param_schedulers])
    walk('lr', runner.optim_wrapper.get_lr())
    return flat


def differences(one, other):
    assert one.keys() == other.keys()
    return [
        name
        for name, value in one.items()
        if not (
            torch.equal(value, other[name])
            if isinstance(value, torch.Tensor)
            else value == other[name]
        )
    ]
