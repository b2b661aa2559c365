# Copyright (c) MotionMAE contributors. All rights reserved.
"""Reconstructions for the visualizer while training goes on."""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tube_mask
from helpers.resumed_runs import PRETRAIN, Recorder, differences, state_of
from mmaction.structures import ActionDataSample
from mmengine.model import MMDistributedDataParallel
from mmengine.visualization import Visualizer
from PIL import Image

from mmmotionmae.engine.hooks import ReconstructionHook, reconstruction_hook
from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.seeding import SampleIndex, kept_random_state
from mmmotionmae.visualization import (
    draw_sheet,
    reconstruct,
    reconstruction_rows,
)

# As docs/user_guides/reports.md says.
TURN_ON = (
    'default_hooks.pictures.type=ReconstructionHook',
    'default_hooks.pictures.interval=1',
    'default_hooks.pictures.num_clips=2',
)


def generators():
    """States of all random generators, comparable."""
    numpy = np.random.get_state()
    return (
        random.getstate(),
        numpy[1].tolist(),
        numpy[2],
        torch.get_rng_state(),
    )


def same(one, other):
    return one[:3] == other[:3] and torch.equal(one[3], other[3])


def sheets(model, samples, statistics='true'):
    videos = reconstruct(model, samples, statistics)
    return [
        draw_sheet(
            reconstruction_rows(
                {name: video[i] for name, video in videos.items()},
                model.targets,
                statistics,
            )
        )
        for i in range(len(samples))
    ]


class Clips(torch.utils.data.Dataset):
    """Clips that depend on index and seed, as random pipelines give them."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.asked.append((int(index), index.seed))
        noise = np.random.randint(256, size=(1, 3, 8, 32, 32), dtype=np.uint8)
        torch.rand(3), random.random()
        sample = ActionDataSample()
        generator = torch.Generator().manual_seed(index.seed + index)
        sample.set_field(tube_mask(1, generator=generator), 'mask')
        return dict(inputs=torch.from_numpy(noise), data_samples=sample)


class Board:
    """A visualizer that keeps what it is given."""

    def __init__(self):
        self.images = {}

    def add_image(self, name, image, step):
        self.images[name, step] = image


def runner_of(model, iterations=7):
    return SimpleNamespace(
        model=model,
        visualizer=Board(),
        train_dataloader=SimpleNamespace(dataset=Clips()),
        iter=iterations,
        epoch=1,
    )


def test_a_training_is_the_same_bit_for_bit(train):
    """With the hook and without: weights, losses, random states."""
    runs = {}
    for name in ('without', 'with'):
        recorder = Recorder()
        options = TURN_ON if name == 'with' else ()
        runner = train(PRETRAIN, name, hooks=[recorder], options=options)
        runs[name] = runner, recorder.losses, generators()
    assert not differences(
        state_of(runs['without'][0]), state_of(runs['with'][0])
    )
    assert runs['without'][1] == runs['with'][1]
    assert same(runs['without'][2], runs['with'][2])

    runner = runs['with'][0]
    folder = Path(runner.visualizer.get_backend('LocalVisBackend')._save_dir)
    steps = (runner.iter // 2, runner.iter)
    assert sorted(p.name for p in (folder / 'vis_image').iterdir()) == sorted(
        f'reconstruction_{i}_{step}.png' for i in (0, 1) for step in steps
    )
    # The last ones are of the weights that came out, and of these clips.
    dataset = runner.train_dataloader.dataset
    places = (0, len(dataset) // 2)
    samples = [dataset[SampleIndex(place, 0)] for place in places]
    for i, sheet in enumerate(sheets(runner.model, samples)):
        path = folder / 'vis_image' / f'reconstruction_{i}_{steps[1]}.png'
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), sheet)


def test_same_clips_and_modes_as_before(tiny_model):
    model = tiny_model().train()
    frozen = model.backbone.blocks[0].eval()
    runner = runner_of(model)
    hook = ReconstructionHook(interval=2, num_clips=4, seed=5)
    before = generators()
    hook.after_train_epoch(runner)  # after the second epoch
    assert same(before, generators())
    assert model.training and model.neck.training and not frozen.training
    first = dict(runner.visualizer.images)
    assert list(first) == [(f'reconstruction_{i}', 7) for i in range(4)]
    dataset = runner.train_dataloader.dataset
    assert dataset.asked == [(i, 5) for i in (0, 2, 5, 7)]

    runner.iter, runner.epoch = 9, 2
    hook.after_train_epoch(runner)  # the third: not yet
    assert runner.visualizer.images == first
    torch.rand(100), np.random.rand(100)
    runner.epoch = 3
    hook.after_train_epoch(runner)
    later = runner.visualizer.images
    for i in range(4):
        one = first[f'reconstruction_{i}', 7]
        np.testing.assert_array_equal(later[f'reconstruction_{i}', 9], one)
    # Another process, such as that of a resumed run, draws the same.
    other = runner_of(model)
    ReconstructionHook(interval=2, num_clips=4, seed=5).after_train_epoch(
        other
    )
    for key, image in first.items():
        np.testing.assert_array_equal(other.visualizer.images[key], image)


def test_by_iterations(tiny_model):
    runner = runner_of(tiny_model(), iterations=0)
    hook = ReconstructionHook(interval=3, by_epoch=False, num_clips=1)
    for step in range(7):
        runner.iter = step
        hook.after_train_iter(runner, step)
    hook.after_train_epoch(runner)
    steps = [step for _, step in runner.visualizer.images]
    assert steps == [3, 6]


def test_in_a_wrapper_of_several_processes(tiny_model):
    """The same picture as of the model itself; nobody else is waited for."""
    model = tiny_model()
    plain, wrapped = runner_of(model), None
    hook = ReconstructionHook(interval=1, num_clips=2)
    hook.after_train_epoch(plain)
    torch.distributed.init_process_group(
        'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        wrapped = runner_of(MMDistributedDataParallel(module=model))
        hook.after_train_epoch(wrapped)
    finally:
        torch.distributed.destroy_process_group()
    for key, image in plain.visualizer.images.items():
        np.testing.assert_array_equal(wrapped.visualizer.images[key], image)


def test_only_the_main_process_draws(tiny_model, monkeypatch):
    monkeypatch.setattr(reconstruction_hook, 'is_main_process', lambda: False)
    runner = runner_of(tiny_model())
    ReconstructionHook(interval=1).after_train_epoch(runner)
    assert not runner.visualizer.images
    assert not runner.train_dataloader.dataset.asked


def test_other_models_are_passed_over_with_one_warning(monkeypatch):
    told = []
    monkeypatch.setattr(
        reconstruction_hook, 'print_log', lambda text, **_: told.append(text)
    )
    runner = runner_of(torch.nn.Linear(2, 2))
    hook = ReconstructionHook(interval=1)
    hook.after_train_epoch(runner)
    hook.after_train_epoch(runner)
    assert not runner.visualizer.images
    assert len(told) == 1 and 'the model is a Linear' in told[0]


def test_a_sample_of_several_clips_shows_the_first(tiny_model):
    model = tiny_model()
    runner = runner_of(model)
    single = Clips.__getitem__

    class Repeated(Clips):
        def __getitem__(self, index):
            return [single(self, index), single(self, index)]

    runner.train_dataloader.dataset = Repeated()
    ReconstructionHook(interval=1, num_clips=1).after_train_epoch(runner)
    plain = runner_of(model)
    ReconstructionHook(interval=1, num_clips=1).after_train_epoch(plain)
    key = 'reconstruction_0', 7
    np.testing.assert_array_equal(
        runner.visualizer.images[key], plain.visualizer.images[key]
    )


def test_tensorboard_gets_the_same_pictures(tiny_model, tmp_path):
    pytest.importorskip('tensorboard', reason='TensorBoard is not installed')
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    runner = runner_of(tiny_model())
    runner.visualizer = Visualizer(
        vis_backends=[dict(type='TensorboardVisBackend')],
        save_dir=str(tmp_path),
    )
    hook = ReconstructionHook(interval=1, num_clips=1)
    hook.after_train_epoch(runner)
    runner.visualizer.close()
    plain = runner_of(runner.model)
    hook.after_train_epoch(plain)
    events = EventAccumulator(str(tmp_path / 'vis_data')).Reload()
    (event,) = events.Images('reconstruction_0')
    assert event.step == 7
    path = tmp_path / 'picture.png'
    path.write_bytes(event.encoded_image_string)
    with Image.open(path) as image:
        np.testing.assert_array_equal(
            np.asarray(image), plain.visualizer.images['reconstruction_0', 7]
        )


@pytest.mark.parametrize(
    'arguments,message',
    [
        (dict(interval=0), 'interval of ReconstructionHook must be at least'),
        (dict(num_clips=0), 'num_clips of ReconstructionHook'),
        (dict(statistics='mean'), "'true', 'visible'.*not 'mean'"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UsageError, match=message):
        ReconstructionHook(**arguments)


def test_random_states_are_put_back_after_an_error_too():
    before = generators()
    with pytest.raises(KeyError), kept_random_state():
        torch.rand(2), np.random.rand(2), random.random()
        raise KeyError
    assert same(before, generators())


def test_parts_of_weights_cannot_be_run(tiny_model, monkeypatch):
    """FSDP2 changes the model in place, without a wrapper."""
    model = tiny_model()
    hook = ReconstructionHook()
    assert hook._can_run(model)
    monkeypatch.setattr(
        'mmmotionmae.engine.hooks.reconstruction_hook.holds_parts',
        lambda weights: len(weights) == len([*model.parameters()]),
    )
    assert not hook._can_run(model)
