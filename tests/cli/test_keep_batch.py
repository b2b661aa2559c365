"""The batch of a config, held on any number of processes."""

import itertools

import pytest
import torch
from conftest import ROOT
from helpers.resumed_runs import PRETRAIN, Recorder
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler

from mmmotionmae.apis.batches import describe_batch, share_batch
from mmmotionmae.cli.keep_batch import keep_batch, world_size_of
from mmmotionmae.engine import SeededSampler
from mmmotionmae.engine.loops.micro_batches import split_batch
from mmmotionmae.utils.errors import UsageError

# 2048 clips, 4 of each video.
PUBLISHED = ROOT / (
    'configs/motionmae/'
    'motionmae_vit-base-p16_32xb64-16x4x1-amp-800e_kinetics400-rgb.py'
)


@pytest.fixture
def published():
    return Config.fromfile(PUBLISHED)


def test_even_shares():
    """Against all ways there are."""
    for videos, world, largest in itertools.product(
        (8, 24, 60, 512), range(1, 9), (1, 3, 8, 16)
    ):
        if videos % world:
            continue
        ways = [
            (size, parts)
            for size in range(1, largest + 1)
            for parts in range(1, videos + 1)
            if size * parts * world == videos
        ]
        share = share_batch(videos, world, largest)
        assert (share.videos // share.parts, share.parts) == max(ways)
        assert share.videos * world == videos


@pytest.mark.parametrize(
    'videos, world, largest', [(512, 3, 16), (512, 5, 16), (10, 4, 8)]
)
def test_uneven_shares_come_close(videos, world, largest):
    share = share_batch(videos, world, largest)
    assert share.videos % share.parts == 0
    assert share.videos // share.parts <= largest
    fewest = -(-(videos // world) // largest)
    errors = [
        abs(size * parts - videos / world)
        for parts in range(fewest, fewest + 8)
        for size in range(1, largest + 1)
    ]
    assert abs(share.videos - videos / world) == min(errors)
    assert abs(share.videos * world - videos) <= 2 * world


class Process:
    """Pretends to be one of several."""

    def __init__(self, monkeypatch):
        self.patch = monkeypatch

    def __call__(self, rank, world_size):
        self.patch.setattr(
            'mmengine.dataset.sampler.get_dist_info',
            lambda: (rank, world_size),
        )


@pytest.fixture
def process(monkeypatch):
    return Process(monkeypatch)


def steps_of(process, size, world, share, drop_last=True):
    """Sets of videos of each step of an epoch, of all processes together."""
    steps = None
    for rank in range(world):
        process(rank, world)
        sampler = SeededSampler(
            range(size), seed=3, samples_of_step=share.videos * world
        )
        sampler.set_epoch(2)
        batches = [*BatchSampler(sampler, share.videos, drop_last)]
        assert len(batches) == len(sampler) // share.videos
        steps = steps or [[] for _ in batches]
        for step, batch in zip(steps, batches, strict=True):
            step += batch
    return [sorted(step) for step in steps]


@pytest.mark.parametrize('size', [1, 11, 12, 13, 23, 24, 25, 96, 100, 121])
def test_steps_do_not_depend_on_processes(process, size):
    """The videos of step s are those at s * batch in the shuffled list."""
    process(0, 1)
    whole = DefaultSampler(range(size), seed=3)
    whole.set_epoch(2)
    order = [*whole]
    for batch, largest in itertools.product((12, 24), (1, 2, 5, 12)):
        expected = [
            sorted(order[start : start + batch])
            for start in range(0, size - batch + 1, batch)
        ]
        for world in (1, 2, 3, 4, 6, 12):
            share = share_batch(batch, world, largest)
            found = steps_of(process, size, world, share)
            assert found == expected
            assert found == steps_of(process, size, world, share, False)
            # Computed in parts: all of them, each of the same size.
            parts = split_batch([*range(share.videos)], share.parts)
            assert sum(parts, []) == [*range(share.videos)]
            assert {len(p) for p in parts} == {share.videos // share.parts}


def test_sampler_is_the_default_without(process):
    for world in (1, 2, 3):
        for rank in range(world):
            process(rank, world)
            ours = SeededSampler(range(11), seed=1)
            assert [*ours] == [*DefaultSampler(range(11), seed=1)]
    with pytest.raises(UsageError, match='3 processes cannot share'):
        SeededSampler(range(11), samples_of_step=4)


@pytest.mark.parametrize('world', [1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
def test_published_batch(published, world):
    line = keep_batch(published, world)
    assert line.startswith('The batch of the config, 2048 clips, is kept')
    cfg = published
    parts = cfg.train_cfg.micro_batches
    assert cfg.optim_wrapper.accumulative_counts == parts
    assert cfg.train_dataloader.batch_size * world * 4 == 2048
    assert cfg.train_dataloader.batch_size // parts == min(16, 512 // world)
    assert cfg.train_dataloader.sampler.samples_of_step == 512
    assert 'Effective batch size: 2048 clips' in describe_batch(cfg, world)


def test_batch_that_cannot_be_kept(published):
    line = keep_batch(published, 3)
    assert published.train_dataloader.batch_size == 170
    lr = published.optim_wrapper.optimizer.lr
    assert line == (
        'The batch of the config, 2048 clips, cannot be shared out evenly: it '
        'is 2040 now (170 videos on each of 3 processes, in 17 parts), the '
        f'learning rate stays {lr:.4g} (in proportion: '
        f'{lr * 2040 / 2048:.4g}, --auto-scale-lr); still '
        f'{published.train_cfg.max_epochs} epochs, each epoch of 1.004 times '
        'as many steps.'
    )


def test_configs_without_a_batch_to_keep(published):
    with pytest.raises(UsageError, match='cannot be shared out among 1024'):
        keep_batch(published, 1024)
    published.train_dataloader.sampler.type = 'DefaultSampler'
    with pytest.raises(UsageError, match='has ResumableEpochLoop and Default'):
        keep_batch(published, 1)
    published.auto_scale_lr = None
    with pytest.raises(UsageError, match='base_batch_size'):
        keep_batch(published, 1)


def test_log_names_the_flags(published):
    hint = (
        'The config is meant for 2048 clips a step: --keep-batch holds that, '
        '--auto-scale-lr scales the rate.'
    )
    assert describe_batch(published, 31).endswith(hint)
    assert describe_batch(published, 32).endswith('as in the config.')
    keep_batch(published, 3)
    assert describe_batch(published, 3).endswith('as in the config.')


def test_number_of_processes(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '3')
    monkeypatch.setenv('SLURM_NTASKS', '5')
    assert world_size_of('none') == 1
    assert world_size_of('pytorch') == 3
    assert world_size_of('slurm') == 5
    assert world_size_of('mpi') == 1


def test_parts_of_a_batch():
    batch = dict(inputs=[*range(4)], samples=dict(x=torch.arange(8.0)))
    one, two = split_batch(batch, 2)
    assert one['inputs'] == [0, 1] and two['inputs'] == [2, 3]
    assert one['samples']['x'].tolist() == [0, 1, 2, 3]
    assert two['samples']['x'].tolist() == [4, 5, 6, 7]
    with pytest.raises(UsageError, match='4 samples .* 3 equal parts'):
        split_batch(batch, 3)


def test_parts_of_a_batch_make_the_same_step(train):
    """32 videos, 8 a step: at once, and in 4 parts of 2."""
    base = ['auto_scale_lr.base_batch_size=8']
    runs = {}
    for name, largest in (('whole', 8), ('parts', 2)):
        recorder = Recorder()
        train(
            PRETRAIN,
            name,
            '--keep-batch',
            options=[*base, f'train_dataloader.batch_size={largest}'],
            hooks=[recorder],
        )
        content = torch.load(f'{name}/epoch_2.pth', weights_only=True)
        runs[name] = recorder.losses, content
    (whole, one), (parts, two) = runs['whole'], runs['parts']
    assert len(whole) == len(parts) == 8
    assert max(abs(a - b) for a, b in zip(whole, parts, strict=True)) < 1e-6
    for name, value in one['state_dict'].items():
        assert (value - two['state_dict'][name]).abs().max() < 1e-5, name
    assert one['param_schedulers'] == two['param_schedulers']
    assert one['meta']['pace'] == two['meta']['pace'] == [4, 8]


def test_accumulation_that_does_not_fit(train):
    with pytest.raises(UsageError, match='micro_batches=4 needs'):
        train(PRETRAIN, 'run', options=['train_cfg.micro_batches=4'])
