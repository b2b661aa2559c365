# Copyright (c) MotionMAE contributors. All rights reserved.
"""A thousand processes, played by one; and eight real ones."""

import copy
from collections import Counter
from math import ceil, prod
from multiprocessing import get_context

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import TINY_MODEL, as_batch, tube_mask
from helpers.config_files import BY_STEM, read
from helpers.processes import HUNG
from mmaction.registry import DATA_SAMPLERS, MODELS
from mmengine.dist import get_dist_info
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.utils import digit_version
from torch import nn
from torch.distributed.checkpoint import DefaultSavePlanner
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from mmmotionmae.apis.cost import collectives, machine, schedule
from mmmotionmae.apis.cost.network import read_network
from mmmotionmae.models.utils.transformer import build_blocks

WORLD = 1024


@pytest.fixture
def as_rank():
    """Be one of many processes; nothing is sent."""

    def join(rank, world=WORLD):
        if dist.is_initialized():
            dist.destroy_process_group()
        dist.init_process_group(
            'fake', rank=rank, world_size=world, store=FakeStore()
        )

    yield join
    dist.destroy_process_group()


# ------------------------------------------------------------------ samples


@pytest.mark.parametrize('videos', [24_043, 1000])
def test_every_sample_once_an_epoch(as_rank, videos):
    """Of all processes together; those that fill up are drawn twice."""
    as_rank(WORLD - 1)
    assert get_dist_info() == (WORLD - 1, WORLD)
    sampler = DATA_SAMPLERS.build(
        dict(type='SeededSampler', dataset=range(videos), seed=3)
    )
    assert (sampler.rank, sampler.world_size) == (WORLD - 1, WORLD)
    sampler.set_epoch(2)
    last = list(sampler)
    share = ceil(videos / WORLD)
    times = np.zeros(videos, dtype=int)
    order = np.empty((share, WORLD), dtype=int)
    for rank in range(WORLD):
        sampler.rank = rank
        drawn = list(sampler)
        order[:, rank] = [int(sample) for sample in drawn]
        np.add.at(times, order[:, rank], 1)
    assert drawn == last  # as that process draws them itself
    # The first of the round come twice: those that make the shares equal.
    assert times.min() == 1
    assert times.sum() == share * WORLD
    flat = order.flatten()
    assert sorted(flat[:videos]) == list(range(videos))
    assert (flat[videos:] == flat[: len(flat) - videos]).all()
    # Seeds are of the sample, not of the process.
    assert len({sample.seed for sample in drawn}) == share


def test_length_of_an_epoch(as_rank):
    """Steps as the plan says them, from the loader of a process."""
    as_rank(7)
    cfg = read(
        BY_STEM[
            'motionmae_vit-giant-p14_64xb128-16x4x1-amp-1200e_kinetics400-rgb'
        ]
    )
    videos = schedule.videos_of('kinetics400')
    split = machine.split_batch(8192, 4, WORLD, most=32)
    assert (split.videos, split.accumulated, split.clips) == (2, 1, 8192)
    sampler = DATA_SAMPLERS.build(
        dict(type='SeededSampler', dataset=range(videos))
    )
    loader = DataLoader(
        range(videos), split.videos, sampler=sampler, drop_last=True
    )
    batch = schedule.Batch(WORLD, split.videos, 4, 1, split.clips, None, None)
    length = schedule.length_of(cfg, batch, videos)
    assert length.steps_per_epoch == len(loader) == videos // 2048
    # As many as on 64 GPUs.
    batch = schedule.Batch(64, 32, 4, 1, 8192, None, None)
    assert schedule.length_of(cfg, batch, videos).steps == length.steps


# ----------------------------------------------------------------- sharding


class Net(nn.Module):
    def __init__(self, width=48, depth=3):
        super().__init__()
        self.embedding = nn.Linear(20, width)
        self.blocks = build_blocks(depth, width, 4, 4.0)
        self.token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x):
        x = self.embedding(x) + self.token
        for block in self.blocks:
            x = block(x)
        return x


def spread(model, mesh, **options):
    """As FSDP2Strategy does it: block by block, then the rest."""
    parts = [b for blocks in collectives.block_lists(model) for b in blocks]
    for module in (*parts, model):
        fully_shard(module, mesh=mesh, reshard_after_forward=True, **options)
    return model


def mesh_of(shape, tag=''):
    names = [f'{name}{tag}' for name in ('replicate', 'shard')[-len(shape) :]]
    return init_device_mesh('cpu', shape, mesh_dim_names=names)


@pytest.mark.parametrize('shape', [(WORLD,), (128, 8)])
def test_parts_of_a_model(as_rank, shape):
    """Bytes of the first process, which has most, and of the last."""
    as_rank(0)
    with torch.device('meta'):
        plain, model = Net(), Net()
    parameters = collectives.trained_parameters(plain)
    spread(model, mesh_of(shape))
    shards = [p for p in model.parameters() if isinstance(p, DTensor)]
    assert len(shards) == len(parameters.shapes)
    kept = sum(p.to_local().numel() for p in shards)
    assert kept == collectives.shard_values(parameters.shapes, shape[-1])
    assert sum(p.numel() for p in shards) == parameters.total
    # At 1024 a row of a matrix is the least part there is.
    rows = sum(
        ceil(p.shape[0] / shape[-1]) * prod(p.shape[1:]) for p in shards
    )
    assert kept == rows


def test_memory_of_vit_giant(as_rank):
    """What `fully_shard` leaves on a process is what the plan says."""
    as_rank(0)
    cfg = read(
        BY_STEM[
            'motionmae_vit-giant-p14_64xb128-16x4x1-amp-1200e_kinetics400-rgb'
        ]
    )
    network = read_network(cfg)
    parameters = collectives.trained_parameters(network.model)
    weights, gradients, states = collectives.sharded_bytes(
        parameters, WORLD, width=4, states=2
    )
    model = spread(copy.deepcopy(network.model), mesh_of((WORLD,)))
    kept = 4 * sum(
        p.to_local().numel()
        for p in model.parameters()
        if isinstance(p, DTensor)
    )
    assert states == 2 * gradients_of(gradients, parameters) == 2 * kept
    block = 12 * 1408**2 + 2 * 1408 * (6144 - 4 * 1408)
    block += 8 * 1408 + 6144
    assert parameters.block == block
    decoder = 4 * (12 * 512**2 + 12 * 512)
    moment = 4 * (parameters.total - 40 * block - decoder + 2 * block)
    assert weights == kept + moment
    # Rows of 1408 on 1024 processes: two of them, where 1.4 would do.
    even = 4 * parameters.total / WORLD
    assert 1.2 < kept / even < 1.3
    eight = 4 * collectives.shard_values(parameters.shapes, 8)
    assert eight == pytest.approx(4 * parameters.total / 8, rel=1e-4)


def gradients_of(gradients, parameters):
    """Without what is there for a moment: a block's, as it is computed."""
    return gradients - 8 * parameters.block


class Collectives(TorchDispatchMode):
    """Counts what PyTorch asks of a process group."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == 'c10d':
            self.counts[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


def test_what_is_sent(as_rank):
    """Collectives that PyTorch calls in a step, and how often."""
    as_rank(0, 8)
    model = spread(Net(), mesh_of((8,)))
    with Collectives() as calls:
        model(torch.rand(2, 5, 20)).sum().backward()
    groups = 3 + 1  # blocks, and the rest
    # PyTorch 2.7 keeps the rest from the forward pass to the backward pass.
    kept = digit_version(torch.__version__) < digit_version('2.8')
    assert calls.counts == {
        'c10d::_allgather_base_': 2 * groups - kept,
        'c10d::_reduce_scatter_base_': groups,
    }


@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_copies_of_mixed_precision(as_rank, dtype):
    """Autocast keeps those of all weights, FSDP2's own are given up."""
    as_rank(0, 8)
    width = 48
    policy = MixedPrecisionPolicy(param_dtype=dtype)
    model = spread(Net(width), mesh_of((8,)), mp_policy=policy)
    weights = {(3 * width, width), (width, width)}
    weights |= {(4 * width, width), (width, 4 * width)}
    weights |= {shape[::-1] for shape in weights}
    kept = {}

    def keep(tensor):
        if tuple(tensor.shape) in weights:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    with (
        torch.autocast('cpu', torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        model(torch.rand(2, 5, 20))
    assert kept
    live = sum(storage.nbytes() for storage in kept.values())
    assert live == (0 if dtype else 2 * 3 * 12 * width**2)


# -------------------------------------------------------------- checkpoints


def test_plan_of_a_sharded_checkpoint(as_rank):
    """Each value is written by one process, and none is left out."""
    world, plans = 16, []
    for rank in range(world):
        as_rank(rank, world)
        # PyTorch takes equal meshes, of another process here, for the same.
        model = spread(Net(), mesh_of((world,), rank))
        planner = DefaultSavePlanner()
        planner.set_up_planner(model.state_dict(), is_coordinator=rank == 0)
        plans.append(planner.create_local_plan())
        if rank == 0:
            coordinator = planner
    plans, metadata = coordinator.create_global_plan(plans)
    written = {}
    for plan in plans:
        for item in plan.items:
            chunk = item.tensor_data.chunk
            rows = written.setdefault(item.index.fqn, [])
            rows.append((chunk.offsets[0], chunk.sizes))
    for name, parameter in Net().state_dict().items():
        chunks = sorted(written[name])
        assert sum(sizes.numel() for _, sizes in chunks) == parameter.numel()
        end = 0
        for start, sizes in chunks:
            assert start == end
            end += sizes[0]
        stored = metadata.state_dict_metadata[name]
        assert stored.size == parameter.shape


# -------------------------------------------------------------- eight ranks

RANKS, VIDEOS, BATCH, EPOCHS = 8, 37, 2, 2


def clips_of(indices):
    """Clips and masks of these videos, as a loader hands them over."""
    frames, masks = [], []
    for index in indices:
        draw = torch.Generator().manual_seed(index)
        frames.append(
            torch.randint(256, (3, 8, 32, 32), generator=draw).to(torch.uint8)
        )
        masks.append(tube_mask(1, generator=draw))
    return as_batch(torch.stack(frames), torch.cat(masks))


def model_and_optimiser():
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(TINY_MODEL))
    model.init_weights()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return model, OptimWrapper(optimizer)


def run_rank(rank, folder):
    """A process of eight, on MMEngine's DDP."""
    torch.set_num_threads(1)
    store = dist.FileStore(f'{folder}/store', RANKS)
    dist.init_process_group('gloo', rank=rank, world_size=RANKS, store=store)
    plain, wrapper = model_and_optimiser()
    model = MMDistributedDataParallel(plain)
    sampler = DATA_SAMPLERS.build(
        dict(type='SeededSampler', dataset=range(VIDEOS), seed=5)
    )
    drawn = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        drawn.append([int(sample) for sample in sampler])
        for part in batched(drawn[-1], BATCH):
            model.train_step(clips_of(part), wrapper)
    torch.save([drawn, plain.state_dict()], f'{folder}/{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


def batched(indices, size):
    """Whole batches, as a loader with `drop_last` makes them."""
    whole = len(indices) // size * size
    return [indices[i : i + size] for i in range(0, whole, size)]


@pytest.mark.slow
def test_eight_processes(tmp_path):
    """Every video in an epoch, and the weights of one process."""
    context = get_context('fork')
    workers = [
        context.Process(target=run_rank, args=(rank, tmp_path), daemon=True)
        for rank in range(RANKS)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(HUNG)
        assert worker.exitcode == 0
    drawn, weights = zip(
        *(torch.load(tmp_path / f'{rank}.pth') for rank in range(RANKS)),
        strict=True,
    )
    for epoch in range(EPOCHS):
        seen = [index for rank in drawn for index in rank[epoch]]
        assert set(seen) == set(range(VIDEOS))
        assert len(seen) == ceil(VIDEOS / RANKS) * RANKS
    first, *others = weights
    for other in others:
        for name, value in first.items():
            assert torch.equal(value, other[name]), name
    # One process, with what all of them had in a step.
    model, wrapper = model_and_optimiser()
    before = copy.deepcopy(model.state_dict())
    for epoch in range(EPOCHS):
        steps = [batched(rank[epoch], BATCH) for rank in drawn]
        for parts in zip(*steps, strict=True):
            model.train_step(clips_of(sum(parts, [])), wrapper)
    moved = 0
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, first[name], atol=1e-6, rtol=0)
        moved = max(moved, (value - before[name]).abs().max().item())
    assert moved > 1e-3
