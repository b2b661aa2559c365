# Copyright (c) MotionMAE contributors. All rights reserved.
"""A resumed run is, bit for bit, the run that was not interrupted."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.resumed_runs import (
    FINETUNE,
    PRETRAIN,
    Interruption,
    Recorder,
    differences,
    state_of,
)
from mmaction.registry import DATA_SAMPLERS, HOOKS, TRANSFORMS
from mmengine.config import Config
from torch.utils.data import DataLoader

from mmmotionmae.engine import SeededSampler
from mmmotionmae.engine.hooks import SeedIterHook
from mmmotionmae.utils.seeding import SampleIndex


def wrapped():
    """The fine-tuning of a concatenation, repeated and balanced."""
    cfg = Config.fromfile(FINETUNE)
    dataset = cfg.train_dataloader.dataset
    for wrapper in (
        lambda inner: dict(type='ConcatDataset', datasets=[inner, inner]),
        lambda inner: dict(type='RepeatDataset', times=2, dataset=inner),
        lambda inner: dict(
            type='ClassBalancedDataset', oversample_thr=0.1, dataset=inner
        ),
    ):
        dataset = wrapper(dataset)
    cfg.train_dataloader.dataset = dataset
    cfg.dump('wrapped.py')
    return 'wrapped.py'


@pytest.mark.parametrize(
    'config,workers',
    [(PRETRAIN, 0), (PRETRAIN, 2), (FINETUNE, 0), (wrapped, 0)],
    ids=['pretrain', 'pretrain-workers', 'finetune-drop-path', 'wrapped'],
)
def test_resumed_run_equals_the_uninterrupted_one(train, config, workers):
    config = config() if callable(config) else config
    reference = Recorder()
    whole = train(
        config, 'whole', epochs=3, workers=workers, hooks=[reference]
    )
    with pytest.raises(KeyboardInterrupt):
        train(
            config,
            'stopped',
            epochs=3,
            workers=workers,
            hooks=[Interruption(epoch=1)],
        )
    assert Path('stopped/last_checkpoint').read_text() == 'epoch_1.pth'

    recorder = Recorder()
    resumed = train(
        config,
        'stopped',
        '--resume',
        epochs=3,
        workers=workers,
        hooks=[recorder],
    )
    assert recorder.batches[0][0] == 1  # the epoch, counted from 0
    assert recorder.losses == reference.losses[-len(recorder.losses) :]
    assert 3 * len(recorder.losses) == 2 * len(reference.losses)
    assert resumed.iter == whole.iter > 0
    expected, actual = state_of(whole), state_of(resumed)
    assert any('exp_avg_sq' in name for name in expected)
    assert differences(expected, actual) == []

    # And so do the files that the two runs leave.
    one, other = (
        torch.load(f'{run}/epoch_3.pth', weights_only=True)['state_dict']
        for run in ('whole', 'stopped')
    )
    assert differences(dict(one), dict(other)) == []


def test_same_seed_same_run_and_other_seed_other_run(train):
    recorders = [Recorder() for _ in range(3)]
    runs = [
        train(PRETRAIN, f'run{i}', '--seed', seed, epochs=1, hooks=[recorder])
        for i, (seed, recorder) in enumerate(
            zip(['5', '5', '6'], recorders, strict=True)
        )
    ]
    first, again, other = map(state_of, runs)
    assert differences(first, again) == []
    assert recorders[0].losses == recorders[1].losses
    assert recorders[0].losses != recorders[2].losses
    assert 'model.backbone.patch_embed.projection.weight' in differences(
        first, other
    )


@pytest.mark.parametrize('workers', [0, 2])
def test_epochs_draw_different_masks(train, workers):
    recorder = Recorder()
    train(
        PRETRAIN,
        'run',
        epochs=2,
        hooks=[recorder],
        workers=workers,
        options=[
            'train_dataloader.dataset.pipeline.5.mask_ratio=0.75',
            'train_dataloader.dataset.pipeline.6.meta_keys=[filename]',
        ],
    )
    first, second = recorder.of_epoch(0), recorder.of_epoch(1)
    videos = first.keys() & second.keys()
    assert len(videos) == 32
    assert all(m.sum() == 48 for m in first.values())  # 0.75 of 64
    same = [v for v in videos if torch.equal(first[v], second[v])]
    assert len(same) <= 2  # of 1820 masks, so hardly ever
    distinct = {tuple(m.flatten().tolist()) for m in first.values()}
    assert len(distinct) > 24
    order = [
        [s.metainfo['filename'] for s in batch['data_samples']]
        for _, batch in recorder.batches
    ]
    assert order[:8] != order[8:]  # shuffled anew


# ------------------------------------------------------- sampler, seeding


def test_sample_index_is_an_int_with_a_seed():
    index = SampleIndex(7, seed=123)
    assert isinstance(index, int) and index == 7
    assert hash(index) == hash(7) and [*range(8)][index] == 7
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(index, protocol))
        assert type(again) is SampleIndex
        assert again == 7 and again.seed == 123


def seeds(seed=0, epoch=0, size=50, shuffle=True):
    sampler = SeededSampler(range(size), shuffle=shuffle, seed=seed)
    sampler.set_epoch(epoch)
    return {int(i): i.seed for i in sampler}


def test_sampler_seeds_differ_by_epoch_index_and_seed():
    base = seeds()
    assert list(base) != sorted(base) and sorted(base) == list(range(50))
    assert base == seeds()
    assert all(0 <= s < 2**32 for s in base.values())
    everything = [base, seeds(epoch=1), seeds(seed=1)]
    drawn = [s for each in everything for s in each.values()]
    assert len(set(drawn)) == 150
    # The order does not matter, nor does the size of the data set.
    assert seeds(shuffle=False) == base
    assert {i: s for i, s in seeds(size=60).items() if i < 50} == base


def test_sampler_takes_any_seed_of_numpy():
    assert len(seeds(seed=-3)) == len(seeds(seed=2**40 + 1)) == 50


def test_sampler_is_registered_with_arguments_of_default_sampler():
    sampler = DATA_SAMPLERS.build(
        dict(type='SeededSampler', shuffle=False, round_up=True, seed=3),
        default_args=dict(dataset=range(5)),
    )
    assert [int(i) for i in sampler] == [0, 1, 2, 3, 4]
    assert [i.seed for i in sampler] == list(
        seeds(seed=3, size=5, shuffle=False).values()
    )


class Draws(torch.utils.data.Dataset):
    """What three sources of random numbers give after `SeedSample`."""

    def __init__(self):
        self.transform = TRANSFORMS.build(dict(type='SeedSample'))

    def __len__(self):
        return 12

    def __getitem__(self, index):
        self.transform(dict(sample_idx=index))
        return random.random(), np.random.rand(), float(torch.rand(()))


@pytest.mark.parametrize('workers', [1, 3])
def test_draws_do_not_depend_on_the_number_of_workers(workers):
    def draw(num_workers):
        dataset = Draws()
        loader = DataLoader(
            dataset,
            batch_size=2,
            sampler=SeededSampler(dataset, seed=0),
            num_workers=num_workers,
            collate_fn=list,
        )
        return [sample for batch in loader for sample in batch]

    alone = draw(0)
    assert len(set(alone)) == 12
    assert draw(workers) == alone


def test_seed_sample_seeds_all_three_sources():
    dataset = Draws()
    first = dataset[SampleIndex(0, 11)]
    assert dataset[SampleIndex(0, 11)] == first
    second = dataset[SampleIndex(0, 12)]
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_seed_sample_asks_for_its_sampler():
    transform = TRANSFORMS.build(dict(type='SeedSample'))
    with pytest.raises(TypeError, match='SeededSampler'):
        transform(dict(sample_idx=3))
    assert repr(transform) == 'SeedSample()'


class FakeRunner:
    def __init__(self, seed=0, iter=0):
        self.seed, self.iter = seed, iter


def test_seed_iter_hook_seeds_by_seed_and_iteration():
    hook = HOOKS.build(dict(type='SeedIterHook'))
    assert type(hook) is SeedIterHook

    def draw(runner):
        hook.before_train_iter(runner, batch_idx=0, data_batch=None)
        return random.random(), np.random.rand(), float(torch.rand(()))

    first = draw(FakeRunner())
    random.random(), np.random.rand(), torch.rand(())
    assert draw(FakeRunner()) == first
    for other in (FakeRunner(iter=1), FakeRunner(seed=1)):
        pairs = zip(first, draw(other), strict=True)
        assert all(a != b for a, b in pairs)


def test_seed_iter_hook_gives_each_rank_its_own_draws(monkeypatch):
    from mmmotionmae.engine.hooks import seed_iter_hook

    drawn = set()
    for rank in range(3):
        monkeypatch.setattr(seed_iter_hook, 'get_rank', lambda r=rank: r)
        SeedIterHook().before_train_iter(FakeRunner(), batch_idx=0)
        drawn.add(float(torch.rand(())))
    assert len(drawn) == 3
