# Copyright (c) MotionMAE contributors. All rights reserved.
"""Plans for a cluster beside loops, files and other ways to count."""

from math import prod

import pytest
import torch
from conftest import ROOT
from helpers.config_files import BY_STEM, read, shrink
from helpers.described_networks import CONFIGS
from mmaction.registry import MODELS
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner, save_checkpoint

from mmmotionmae.apis import UsageError, cost
from mmmotionmae.apis.cost import Machine, cluster, collectives
from mmmotionmae.apis.cost.machine import VIDEO_BYTES, split_batch

KINETICS = '-amp-1600e_kinetics400-rgb'
BASE = f'motionmae_vit-base-p16_32xb64-16x4x1{KINETICS}'
LARGEST = {
    BASE: 512,
    f'motionmae_vit-large-p16_16xb32-16x4x1{KINETICS}': 128,
    f'motionmae_vit-huge-p16_32xb32-16x4x1{KINETICS}': 256,
    'motionmae_vit-giant-p14_64xb128-16x4x1-amp-1200e_kinetics400-rgb': 2048,
}


def planned(cfg, videos=None, **machine):
    found = cost.describe(cfg, videos=videos)
    return cost.plan(cfg, Machine(**machine), found, videos)


# -------------------------------------------------------------- collectives


@pytest.mark.parametrize('n', [2, 5, 8])
def test_bytes_of_a_ring(n):
    """An all-reduce done by hand, and everything that is sent counted."""
    parts = torch.arange(n * n, dtype=torch.float64).view(n, n, 1).clone()
    expected, sent = parts.sum(0), 0
    for step in range(2 * (n - 1)):  # scatter sums, then gather them
        message = [parts[r, (r - step) % n].clone() for r in range(n)]
        for rank, values in enumerate(message):
            place = (rank - step) % n
            neighbour = parts[(rank + 1) % n]
            if step < n - 1:
                neighbour[place] += values
            else:
                neighbour[place] = values
            sent += values.numel() * 8
        if step == n - 2:
            half = sent
    assert all(torch.equal(part, expected) for part in parts)
    whole = 8 * n
    assert half / n == collectives.gathered(whole, n)
    assert sent / n == pytest.approx(collectives.all_reduced(whole, n))


@pytest.mark.parametrize('n', [1, 3, 8, 1000])
def test_parts_are_those_of_chunk(n):
    shapes = [(7, 3), (1, 1, 5), (1408,), (16, 2, 2), (3000, 2)]
    kept = sum(torch.empty(s).chunk(n)[0].numel() for s in shapes)
    assert collectives.shard_values(shapes, n) == kept
    if n == 1:
        assert kept == sum(map(prod, shapes))


@pytest.mark.parametrize(
    'processes,inside,outside,seconds',
    [
        (1, None, None, 0),
        (8, 5.0, None, 20),  # a node
        (8, None, 5.0, None),
        (16, 50.0, 10.0, 10),
        (16, 5.0, 10.0, 20),
        (16, None, 10.0, 10),
        (16, 5.0, None, None),
    ],
)
def test_the_slower_link_decides(processes, inside, outside, seconds):
    links = collectives.Links(inside, outside, 8)
    assert links.seconds(100.0 if processes > 1 else 0, processes) == seconds


def test_what_is_sent_for_a_step():
    """Of a model of two matrices, on 2 nodes of 4."""
    parameters = collectives.Parameters(((8, 3), (4, 5)), 44, 20, 24)
    links = collectives.Links(1.0, 1.0, 4)
    ddp = collectives.ddp_traffic(parameters, 8, links)
    assert ddp.sent == ddp.seconds == pytest.approx(2 * 7 / 8 * 4 * 44)
    # 4 rows on 8 processes: one each, and as much again of padding.
    fsdp = collectives.fsdp_traffic(parameters, 8, links, 2, batches=3)
    assert fsdp.sent == pytest.approx(3 * 7 * (3 + 5) * (2 + 2 + 4))
    hsdp = collectives.hsdp_traffic(parameters, 8, links, 2, batches=3)
    inside = 3 * 3 * (6 + 5) * (2 + 2 + 4)
    over = 3 * 2 * 1 / 2 * 4 * (6 + 5)
    assert hsdp.sent == pytest.approx(inside + over)
    assert hsdp.seconds == pytest.approx(inside + 4 * over)
    # On one node it is FSDP2.
    one = collectives.hsdp_traffic(parameters, 4, links, 2, batches=3)
    assert one == collectives.fsdp_traffic(parameters, 4, links, 2, batches=3)


# -------------------------------------------------------------------- batch


@pytest.mark.parametrize('stem', LARGEST)
def test_largest_world(stem):
    batch = planned(read(BY_STEM[stem]), gpus=8)['batch']
    assert batch['largest'] == LARGEST[stem]
    most = split_batch(batch['recipe'], 4, LARGEST[stem], 64)
    assert (most.videos, most.accumulated) == (1, 1)
    assert most.clips == batch['recipe']


@pytest.mark.parametrize('gpus', [1, 3, 8, 32, 96, 512, 700])
@pytest.mark.parametrize('most', [1, 6, 16])
def test_batch_is_divided(gpus, most):
    split = split_batch(2048, 4, gpus, most)
    assert split.videos <= most
    ways = [
        (accumulated, videos)
        for videos in range(1, most + 1)
        for accumulated in range(1, 2049)
        if gpus * videos * 4 * accumulated == 2048
    ]
    if ways:
        assert (split.accumulated, split.videos) == min(ways)
        assert split.clips == 2048
    else:
        assert split.clips == gpus * split.videos * 4 * split.accumulated
        assert split.clips != 2048


def test_what_the_recipe_does_not_allow():
    cfg = read(BY_STEM[BASE])
    (note,) = planned(cfg, gpus=1024)['notes']
    assert note == (
        '1024 GPUs are more than the recipe allows: its 2048 clips a step end '
        'at 512 GPUs with one video of 4 clips each; here a step has 4096.'
    )
    (note,) = planned(cfg, gpus=96)['notes']
    assert '2048 clips a step cannot be divided among 96 GPUs' in note
    assert '64 or 128 GPUs can. Here a step has 1920.' in note
    found = planned(cfg, gpus=64, memory=1e9)
    assert found['batch']['videos'] == 1  # as little as there can be
    assert found['batch']['accumulated'] == 8
    assert 'More than the 1 GB of a GPU, with 1 videos' in found['notes'][0]
    assert not planned(cfg, gpus=64, memory=80e9)['notes']


@pytest.mark.parametrize('gpus', [1, 2])
def test_clips_that_are_no_whole_videos(gpus):
    """Ten clips, four of each video: two videos, on however many GPUs."""
    cfg = read(BY_STEM[BASE])
    cfg.auto_scale_lr.base_batch_size = 10
    found = planned(cfg, gpus=gpus)
    (note,) = found['notes']
    assert note.startswith('10 clips a step are no whole number of videos')
    assert found['batch']['clips'] == 8


def test_nodes_that_are_not_full():
    """HSDP needs the same number of processes on each node."""
    cfg = read(BY_STEM[BASE])
    *_, note = planned(cfg, gpus=12, per_node=8)['notes']
    assert '12 GPUs do not fill their 2 nodes of 8: HSDP' in note
    assert not planned(cfg, gpus=4, per_node=8)['notes']


# ------------------------------------------------------------ a whole plan


def test_plan_of_vit_base():
    """Every figure by its formula, from other counts."""
    cfg = read(BY_STEM[BASE])
    machine = dict(
        gpus=64,
        flops=400e12,
        outside=400e9,
        inside=450e9,
        storage=10e9,
        clips_per_core=50.0,
        video_bytes=1e6,
    )
    found = planned(cfg, **machine)
    model = MODELS.build(cfg.model)
    values = sum(p.numel() for p in model.parameters())
    assert found['batch']['videos'] == 8  # 2048 / 64 / 4
    step = 32 * 3 * 68361388032 / 400e12  # by hand, see test_cost.py
    assert found['step'] == pytest.approx(step)
    sent = 2 * 63 / 64 * 4 * values
    assert found['traffic']['ddp']['sent'] == pytest.approx(sent)
    seconds = found['traffic']['ddp']['seconds']
    assert seconds == pytest.approx(sent / 400e9)
    steps = 240_436 // 64 // 8 * 400
    assert found['steps'] == steps
    exposed = max(0, seconds - 2 / 3 * step)
    assert found['hours']['ddp'] == pytest.approx(
        steps * (step + exposed) / 3600
    )
    data = found['data']
    assert data['clips_per_second'] == pytest.approx(8 * 32 / step)
    assert data['cores'] == -(-8 * 32 // (step * 50)) + 8
    assert data['read'] == pytest.approx(8 * 8 / step * 1e6)
    assert data['shm'] == 8 * 10 * 2 * 32 * 3 * 16 * 224**2
    checkpoint = found['checkpoint']
    assert checkpoint['bytes'] == pytest.approx(12 * values, rel=0.06)
    assert checkpoint['seconds'] == checkpoint['bytes'] / 10e9
    assert checkpoint['sharded_seconds'] == checkpoint['seconds'] / 8
    assert checkpoint['kept'] == 3 * checkpoint['bytes']
    cfg.train_dataloader.batch_size = 8
    used = cost.describe(cfg, 64)['memory']
    assert found['memory']['ddp']['total'] == used['total']
    for key in ('fsdp2', 'hsdp'):
        assert found['memory'][key]['activations'] == used['activations']
        assert found['memory'][key]['total'] < used['total']


def test_gathering_in_half_precision():
    cfg = read(BY_STEM[BASE])
    single = planned(cfg, gpus=64)
    cfg.strategy = dict(type='FSDP2Strategy', param_dtype='bfloat16')
    half = planned(cfg, gpus=64)
    sent = [found['traffic']['fsdp2']['sent'] for found in (half, single)]
    assert sent[0] / sent[1] == pytest.approx(8 / 12)
    # And autocast keeps no copies of the weights.
    values = cost.describe(cfg)['parameters']['total']
    more = [found['memory']['fsdp2']['weights'] for found in (single, half)]
    assert more[0] - more[1] > 2 * values


def test_memory_of_a_config_that_spreads_weights():
    """`describe` counts them as the config trains."""
    cfg = read(BY_STEM[BASE])
    cfg.train_dataloader.batch_size = 8  # 2048 clips on 64 GPUs
    found = planned(cfg, gpus=64)['memory']
    ways = dict(
        ddp=None,
        fsdp2=dict(type='FSDP2Strategy'),
        hsdp=dict(type='FSDP2Strategy', shard_size='node'),
    )
    totals = []
    for way, strategy in ways.items():
        cfg.strategy = strategy
        used = cost.describe(cfg, 64)['memory']
        assert used['way'] == way
        assert used['total'] == found[way]['total']
        totals.append(used['total'])
    assert totals[1] < totals[2] < totals[0]
    assert 'mixed precision, HSDP' in cost.text(cost.describe(cfg, 64))


def test_speeds_that_are_not_known():
    found = planned(read(BY_STEM[BASE]), gpus=16)
    assert found['step'] is None
    assert found['data']['cores'] is None
    assert found['checkpoint']['seconds'] is None
    for key in ('ddp', 'fsdp2', 'hsdp'):
        assert found['traffic'][key]['seconds'] is None
        assert found['hours'][key] is None
    text = cost.cluster_text(found)
    assert 'computing unknown' in text and 'cores' not in text
    # Of the loader there is a measured figure.
    assert found['data']['clips_per_core'] == pytest.approx(76.5, abs=0.5)


def test_speed_that_was_measured():
    """It goes before what FLOPs would say."""
    cfg = read(BY_STEM[BASE])
    found = planned(cfg, gpus=8, clips_per_second=320.0, flops=1e12)
    assert found['batch']['accumulated'] == 4
    assert found['step'] == pytest.approx(64 * 4 / 320)
    assert found['data']['clips_per_second'] == pytest.approx(8 * 320)


def test_what_cannot_be_planned():
    paths = {path.stem: path for path in CONFIGS}
    cfg = read(paths['vit-base-p16_label-propagation-dino_davis2017'])
    with pytest.raises(UsageError, match='needs a training'):
        planned(cfg, gpus=8)


# -------------------------------------------------------- files and batches

DEMO = 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes'


def test_bytes_of_a_checkpoint(tmp_path):
    """Those of a file that is written."""
    cfg = read(BY_STEM[DEMO])
    cfg.model.backbone.update(embed_dims=128, num_heads=4)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    wrapper.optimizer.step()
    path = tmp_path / 'epoch_1.pth'
    save_checkpoint(
        dict(state_dict=model.state_dict(), optimizer=wrapper.state_dict()),
        str(path),
    )
    estimated = planned(cfg, 100, gpus=1)['checkpoint']['bytes']
    assert estimated == pytest.approx(path.stat().st_size, rel=0.03)
    assert estimated < path.stat().st_size


def test_bytes_of_shared_memory(shapes_dir):
    """Those of the batches of the loader."""
    cfg = shrink(read(BY_STEM[BASE]), shapes_dir)
    cfg.auto_scale_lr.base_batch_size = 2 * 4 * 3
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    num_bytes = sum(clip.numel() for clip in batch['inputs'])
    cfg.train_dataloader.update(num_workers=3, prefetch_factor=5)
    found = planned(cfg, 100, gpus=3, per_node=2)
    assert found['batch']['videos'] == 2
    assert found['data']['shm'] == 2 * 3 * 5 * num_bytes


def test_formulas_are_in_the_docs():
    page = (ROOT / 'docs/user_guides/clusters.md').read_text()
    for stem, gpus in LARGEST.items():
        size = stem.partition('vit-')[2][0]
        letter = size if size == 'g' else size.upper()
        assert f'{gpus} for ViT-{letter}' in page
    assert f'{cluster.DECODING * 1e3:g} ms' in page
    assert f'{cluster.CROPPING * 1e3:g} ms' in page
    assert f'default {VIDEO_BYTES / 1e6:g}' in page
