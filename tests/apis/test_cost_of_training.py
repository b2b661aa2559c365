# Copyright (c) MotionMAE contributors. All rights reserved.
"""Memory, batch, steps and hours of configs."""

import pytest
import torch
from benchmarks import networks
from benchmarks.networks import SIZES, Setup
from conftest import ROOT
from helpers.described_networks import (
    SETUP,
    as_config,
    peak_of_training,
    recogniser,
)
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader

from mmmotionmae.apis import cost
from mmmotionmae.apis.batches import describe_batch
from mmmotionmae.apis.cost import memory, schedule
from mmmotionmae.apis.cost.network import read_network
from mmmotionmae.cli import train_options as launch
from mmmotionmae.models.utils.transformer import build_blocks

# ------------------------------------------------------------------ memory


def activations(config, setup=SETUP, half=False):
    network = read_network(as_config(config, setup))
    found = memory.memory_of(network, setup.batch_size, half, states=2)
    total = network.parameters['total']
    copies = 2 * network.trained if half else 0
    assert found.weights == 4 * total + copies
    assert found.gradients == 4 * network.trained
    assert found.optimizer == 8 * network.trained
    return found.activations + copies


MODEL_CONFIGS = dict(
    {key: networks.our_config(key, SETUP) for key in networks.OURS},
    checkpointed=networks.our_config('shared', SETUP, with_cp=True),
    stock=recogniser(),
    fused=recogniser('FusedVisionTransformer'),
    half_frozen=recogniser('FusedVisionTransformer', frozen_stages=2),
    probe=recogniser(
        'FusedVisionTransformer', 'AttentiveProbeHead', frozen_stages=4
    ),
)


@pytest.mark.parametrize('key', MODEL_CONFIGS)
def test_activations_are_those_that_are_allocated(key):
    """In float32, within 6 %: as the tool says."""
    config = MODEL_CONFIGS[key]
    peak = peak_of_training(config)
    assert activations(config) == pytest.approx(peak, rel=0.06)


@pytest.mark.parametrize('key', ['shared', 'checkpointed'])
def test_activations_in_mixed_precision(key):
    """A CPU casts predictions for the loss, a GPU does not: 10 %."""
    config = MODEL_CONFIGS[key]
    peak = peak_of_training(config, SETUP, True)
    assert activations(config, half=True) == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize(
    'key,megabytes',
    [
        ('pixel', 445),
        ('shared', 494),
        ('independent', 731),
        # Not decoder-masking: its peak is that of the gradients.
        ('cross-attention', 444),
    ],
)
def test_activations_of_vit_base(key, megabytes):
    """Measured: docs/benchmarks, ViT-B on a CPU, in float32."""
    setup = Setup(SIZES['base'])
    config = networks.our_config(key, setup)
    found = activations(config, setup)
    assert found == pytest.approx(megabytes * 1e6, rel=0.03)


@pytest.mark.parametrize(
    'name,megabytes',
    [('VisionTransformer', 2554), ('FusedVisionTransformer', 765)],
)
def test_activations_of_fine_tuning_vit_small(name, megabytes):
    """Likewise."""
    setup = Setup(SIZES['small'])
    config = networks.recogniser_config(name, setup)
    found = activations(config, setup)
    assert found == pytest.approx(megabytes * 1e6, rel=0.03)


@pytest.mark.parametrize('queries', [40, 64])
@pytest.mark.parametrize('amp', [False, True])
def test_what_a_block_keeps(queries, amp):
    (block,) = build_blocks(1, 48, 2, mlp_ratio=3.0)
    x = torch.rand(2, 64, 48, requires_grad=True) + 0
    # Weights, parts of them and their casts are known by their shapes.
    weights = {tuple(p.shape) for p in block.parameters()} | {(96, 48)}
    weights |= {shape[::-1] for shape in weights}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if tuple(tensor.shape) not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), storage)
        return tensor

    with (
        torch.autocast('cpu', torch.bfloat16, enabled=amp),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
    ):
        block(x, None if queries == 64 else queries)
    found = sum(size for size, _ in kept.values())
    width = 2 if amp else 4
    estimated = 2 * memory.block_bytes(queries, 64, 48, width, 3.0)
    # Statistics of norms and softmax, and copies of small parts, are left out.
    assert estimated == pytest.approx(found, rel=0.05)


# ---------------------------------------------------------------- training


def test_batch_and_learning_rate():
    cfg = as_config(recogniser())
    batch = cost.describe(cfg)['batch']
    assert batch['gpus'] == 2  # of the name
    assert batch['clips'] == 2 * 3 * 2 * 3
    assert batch['scaled_lr'] == pytest.approx(1e-3 * 36 / 72)
    eight = cost.describe(cfg, gpus=8)['batch']
    assert eight['clips'] == 8 * 3 * 2 * 3
    assert eight['scaled_lr'] == pytest.approx(1e-3 * 144 / 72)
    # What tools/train.py says itself.
    launch.set_auto_scale_lr(cfg)
    said = describe_batch(cfg, 8)
    assert said.startswith('Effective batch size: 144 clips a step')
    assert said.endswith('Learning rate: 0.002, scaled to the batch size.')


@pytest.mark.parametrize('drop_last', [False, True])
@pytest.mark.parametrize('gpus', [1, 3])
@pytest.mark.parametrize('videos', [31, 36])
def test_steps_are_those_of_the_loader(drop_last, gpus, videos, monkeypatch):
    cfg = as_config(recogniser())
    cfg.train_dataloader.drop_last = drop_last
    found = cost.describe(cfg, gpus, videos)
    monkeypatch.setattr(
        'mmengine.dataset.sampler.get_dist_info', lambda: (0, gpus)
    )
    loader = DataLoader(
        range(videos),
        batch_size=3,
        sampler=DefaultSampler(range(videos)),
        drop_last=drop_last,
    )
    length = found['length']
    assert length['steps_per_epoch'] == pytest.approx(len(loader) / 3)
    assert length['clips'] == 5 * len(loader) * gpus * 3 * 2
    assert length['steps'] == -(-5 * len(loader) // 3)
    assert (length['epochs'], length['clip_epochs']) == (5, 10)
    # Ours accumulates within an epoch.
    cfg.train_cfg.type = 'ResumableEpochLoop'
    length = cost.describe(cfg, gpus, videos)['length']
    assert length['steps_per_epoch'] == -(-len(loader) // 3)
    assert length['steps'] == 5 * -(-len(loader) // 3)


def test_data_sets_within_wrappers():
    """The same batch; an epoch of the wrapper is one of its loader."""
    cfg = as_config(networks.our_config('shared', SETUP))
    plain = cost.describe(cfg, gpus=2, videos=31)
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset',
        times=4,
        dataset=dict(type='ConcatDataset', datasets=[dataset, dataset]),
    )
    wrapped = cost.describe(cfg, gpus=2, videos=31)
    for part in ('tokens', 'flops', 'batch', 'memory', 'notes'):
        assert wrapped[part] == plain[part]
    length, batch = wrapped['length'], cfg.train_dataloader.batch_size
    share = DataLoader(  # of one of two processes
        range(4 * 31 // 2),
        batch_size=batch,
        drop_last=cfg.train_dataloader.get('drop_last', False),
    )
    accumulated = wrapped['batch']['accumulated']
    steps = len(share) / accumulated
    assert length['steps_per_epoch'] == pytest.approx(steps)
    assert length['clip_epochs'] == 4 * plain['length']['clip_epochs']
    # What tools/train.py says and does.
    clips = wrapped['batch']['clips']
    assert describe_batch(cfg, 2).startswith(f'Effective batch size: {clips} ')
    base = cfg.auto_scale_lr.base_batch_size
    launch.set_auto_scale_lr(cfg)
    assert 2 * batch / cfg.auto_scale_lr.base_batch_size == clips / base
    cfg.train_dataloader.dataset = dict(
        type='ClassBalancedDataset', oversample_thr=1, dataset=dataset
    )
    note = cost.describe(cfg, gpus=2, videos=31)['notes'][-1]
    assert 'here it is taken for once' in note


def test_hours():
    cfg = as_config(recogniser())
    found = cost.describe(cfg, 2, 36_000, clips_per_second=50.0)
    assert found['length']['clips'] == 360_000
    assert found['time']['hours'] == pytest.approx(1.0)  # 3600 s x 2 x 50
    assert found['time']['flops'] == 360_000 * found['flops']['training']
    lines = cost.text(found)
    assert '1.0 h at 50 clips per second and GPU' in lines
    # No speed is invented.
    unknown = cost.text(cost.describe(cfg, 2, 36_000))
    assert '1.0 GPU-hours if a GPU trains on 100 clips' in unknown


def test_iterations_need_no_videos():
    cfg = as_config(
        recogniser(), train_cfg=dict(type='IterBasedTrainLoop', max_iters=100)
    )
    length = cost.describe(cfg, 4)['length']
    assert (length['steps'], length['clips']) == (34, 100 * 4 * 3 * 2)


@pytest.mark.parametrize(
    'data,videos',
    [
        ('sthv2', 168_913),
        ('ucf101', 9_537),
        ('hmdb51', 3_570),
        ('kinetics400', 240_436),
        ('kinetics400-1percent', 2_404),
        ('sthv2-10percent', 16_891),
        ('videos', None),
        ('ava-kinetics', None),
    ],
)
def test_videos_of_data_sets(data, videos):
    assert schedule.videos_of(data) == videos
    readme = ROOT / 'tools' / 'data' / data / 'README.md'
    if videos:
        name = data.split('-')[0]
        readme = ROOT / 'tools' / 'data' / name / 'README.md'
        count = schedule.VIDEOS[name]
        assert f'{count:,}' in readme.read_text()


def test_memory_of_devices():
    """Gradients, the same on several devices; the optimiser's states."""
    cfg = as_config(recogniser())
    one, two = (cost.describe(cfg, gpus)['memory'] for gpus in (1, 2))
    assert two['gradients'] == one['gradients'] == one['optimizer'] / 2
    for optimizer, states in (
        (dict(type='SGD', lr=1.0, momentum=0.9), 1),
        (dict(type='SGD', lr=1.0), 0),
        (dict(type='LARS', lr=1.0), 1),
    ):
        cfg.optim_wrapper.optimizer = optimizer
        found = cost.describe(cfg, 1)['memory']
        assert found['optimizer'] == states * one['gradients']
