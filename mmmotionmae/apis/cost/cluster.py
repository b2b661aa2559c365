# Copyright (c) MotionMAE contributors. All rights reserved.
"""Needs of a training on a cluster: batch, memory, data, network, disks.

Each formula is in docs/user_guides/clusters.md, under "Planning a cluster".
"""

from dataclasses import asdict, replace
from math import ceil
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ...utils.errors import UsageError
from .collectives import (
    Traffic,
    ddp_traffic,
    fsdp_traffic,
    hsdp_traffic,
    sharded_bytes,
    trained_parameters,
)
from .machine import Machine, Split, split_batch
from .memory import Memory, memory_of
from .network import Network, read_network
from .schedule import (
    batch_of,
    data_of,
    is_half,
    length_of,
    states_of,
    videos_of,
)

# A core of the loader, seconds: opening and decoding a video, and cropping
# each clip of it. From 29.8 and 76.5 clips/s a core with 1 and 4 clips of a
# video (docs/benchmarks, data and model together): 340x256, 10 s, 424 kB.
DECODING, CROPPING = 0.0273, 0.00622
HIDDEN = dict(ddp=2 / 3, fsdp2=1.0, hsdp=1.0)  # of the computation


def checkpoint_bytes(model: nn.Module, states: int) -> int:
    """Bytes of a checkpoint: the state dict, and the optimiser's states."""
    weights = sum(
        tensor.numel() * tensor.element_size()
        for tensor in model.state_dict().values()
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    return weights + sum(states * 4 * p.numel() + 4 for p in trained)


def plan(
    cfg: Config,
    machine: Machine,
    found: dict[str, Any],
    videos: int | None = None,
    network: Network | None = None,
) -> dict[str, Any]:
    """Plan a training on a cluster.

    Args:
        cfg: The config.
        machine: The cluster.
        found: What :func:`describe` says of the config.
        videos: To train on. Defaults to those of the data set, if known.
        network: Of the config, where it was read before.

    Returns:
        ``machine``, ``batch`` (see :class:`Split`), ``data`` (of a node:
        clips/s, cores, bytes/s read, bytes of ``/dev/shm``), ``step``
        (seconds), ``memory``, ``traffic`` and ``hours`` for ``ddp``,
        ``fsdp2`` and ``hsdp``, ``checkpoint`` and ``notes``; bytes, seconds.

    Raises:
        UsageError: If the config trains no ViT, or nothing at all.
    """
    init_default_scope(cfg.get('default_scope', 'mmaction'))
    if 'batch' not in found or 'memory' not in found:
        raise UsageError(
            f'{cfg.filename} cannot be planned for a cluster: it needs a '
            'training (train_cfg) of a ViT.'
        )
    network = network or read_network(cfg)
    own = batch_of(cfg, machine.gpus)
    recipe = own.base or own.clips
    width, states = _gathered_width(cfg), states_of(cfg)
    parameters = trained_parameters(network.model)

    def memory(videos: int) -> dict[str, Memory]:
        return memories_of(cfg, network, machine, videos * own.repeats)

    most = own.videos
    if machine.memory:
        while most > 1 and _least(memory(most)) > machine.memory:
            most -= 1
    split = split_batch(recipe, own.repeats, machine.gpus, most)
    clips = split.videos * split.repeats  # of a GPU, at a time
    step = _step_seconds(machine, found, clips * split.accumulated)
    sizes = (parameters, machine.gpus, machine.links)
    sharding = (width, split.accumulated)
    traffic = dict(
        ddp=ddp_traffic(*sizes),
        fsdp2=fsdp_traffic(*sizes, *sharding),
        hsdp=hsdp_traffic(*sizes, *sharding),
    )
    batch = replace(
        own,
        videos=split.videos,
        accumulated=split.accumulated,
        clips=split.clips,
    )
    length = length_of(cfg, batch, videos or videos_of(data_of(cfg)))
    used = memory(split.videos)
    saved = checkpoint_bytes(network.model, states)
    return dict(
        machine=dict(asdict(machine), nodes=machine.nodes),
        batch=asdict(split),
        step=step,
        steps=length.steps if length else None,
        memory={key: dict(vars(m), total=m.total) for key, m in used.items()},
        traffic={key: vars(value) for key, value in traffic.items()},
        hours={
            key: _hours(key, value, step, split, length)
            for key, value in traffic.items()
        },
        data=_data(cfg, machine, network, split, step),
        checkpoint=_checkpoint(cfg, machine, saved),
        notes=_notes(split, machine, used),
    )


def _gathered_width(cfg: Config) -> int:
    """Bytes of a value that FSDP2 gathers."""
    dtype = (cfg.get('strategy') or {}).get('param_dtype')
    return 2 if dtype in ('bfloat16', 'float16') else 4


def way_of(cfg: Config) -> str:
    """Name of the way in which a config trains: a key of :data:`HIDDEN`."""
    strategy = cfg.get('strategy') or {}
    if strategy.get('type') != 'FSDP2Strategy':
        return 'ddp'
    return 'hsdp' if strategy.get('shard_size') else 'fsdp2'


def memories_of(
    cfg: Config, network: Network, machine: Machine, clips: int
) -> dict[str, Memory]:
    """Estimate the memory of a GPU in each way to train.

    Args:
        cfg: The config.
        network: Its network.
        machine: The cluster.
        clips: On a GPU at a time.

    Returns:
        For each key of :data:`HIDDEN`.
    """
    half, states = is_half(cfg), states_of(cfg)
    parameters = trained_parameters(network.model)
    width = _gathered_width(cfg)
    ddp = memory_of(network, clips, half, states)
    # Autocast keeps its copies of the weights until the backward pass.
    copies = 2 * network.trained if half and width == 4 else 0

    def sharded(processes: int) -> Memory:
        weights, *rest = sharded_bytes(parameters, processes, width, states)
        return Memory(ddp.activations, weights + copies, *rest)

    return dict(
        ddp=ddp,
        fsdp2=sharded(machine.gpus),
        hsdp=sharded(machine.gpus_of_node),
    )


def used_memory(
    cfg: Config, network: Network, gpus: int, clips: int
) -> dict[str, Any]:
    """Estimate the memory of a GPU, in the way in which the config trains.

    Args:
        cfg: The config.
        network: Its network.
        gpus: In all.
        clips: On a GPU at a time.

    Returns:
        What :class:`Memory` has, ``total``, ``half`` (mixed precision) and
        ``way``, ``'ddp'``, ``'fsdp2'`` or ``'hsdp'``.
    """
    way, size = way_of(cfg), (cfg.get('strategy') or {}).get('shard_size')
    machine = Machine(gpus, size if isinstance(size, int) else 8)
    memory = memories_of(cfg, network, machine, clips)[way]
    return dict(vars(memory), total=memory.total, half=is_half(cfg), way=way)


def _least(memory: dict[str, Memory]) -> int:
    return min(one.total for one in memory.values())


def _step_seconds(
    machine: Machine, found: dict[str, Any], clips: int
) -> float | None:
    """Computation of a step on one GPU; None if its speed is not known."""
    if machine.clips_per_second:
        return clips / machine.clips_per_second
    if machine.flops:
        return clips * found['flops']['training'] / machine.flops
    return None


def _hours(
    key: str, traffic: Traffic, step: float | None, split: Split, length: Any
) -> float | None:
    """Hours of all steps, with what communication adds to computation.

    DDP sums gradients in the backward pass of the last batch, FSDP2 gathers
    and sums in all of them.
    """
    if step is None or traffic.seconds is None or length is None:
        return None
    hidden = HIDDEN[key] * step
    if key == 'ddp':
        hidden /= split.accumulated
    return length.steps * (step + max(0, traffic.seconds - hidden)) / 3600


def _data(
    cfg: Config,
    machine: Machine,
    network: Network,
    split: Split,
    step: float | None,
) -> dict[str, Any]:
    """Clips, cores, reading and shared memory of a node."""
    loader = cfg.train_dataloader
    workers = loader.get('num_workers', 0)
    assert network.size is not None and network.tokens is not None
    # Frames in uint8; a mask is smaller by far, and left out.
    clip = network.size.values * network.tokens.total
    batches = workers * (loader.get('prefetch_factor') or 2)
    per_core = machine.clips_per_core or 1 / (
        DECODING / split.repeats + CROPPING
    )
    data: dict[str, Any] = dict(
        clips_per_core=per_core,
        shm=machine.gpus_of_node
        * batches
        * split.videos
        * split.repeats
        * clip,
        clips_per_second=None,
        cores=None,
        read=None,
    )
    if step is not None:
        clips = split.videos * split.repeats * split.accumulated / step
        node = clips * machine.gpus_of_node
        data.update(
            clips_per_second=node,
            # And one for each trainer.
            cores=ceil(node / per_core) + machine.gpus_of_node,
            read=node / split.repeats * machine.video_bytes,
        )
    return data


def _checkpoint(
    cfg: Config, machine: Machine, num_bytes: int
) -> dict[str, Any]:
    """Written by one process, or by all nodes, each its part."""
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    number = hook.get('max_keep_ckpts', -1)
    one = num_bytes / machine.storage if machine.storage else None
    return dict(
        bytes=num_bytes,
        kept=number * num_bytes if number > 0 else None,
        seconds=one,
        sharded_seconds=None if one is None else one / machine.nodes,
    )


def _notes(
    split: Split, machine: Machine, memory: dict[str, Memory]
) -> list[str]:
    """Lines about what does not fit."""
    notes, gpus = [], machine.gpus
    if gpus > split.largest:
        notes.append(
            f'{gpus} GPUs are more than the recipe allows: its {split.recipe} '
            f'clips a step end at {split.largest} GPUs with one video of '
            f'{split.repeats} clips each; here a step has {split.clips}.'
        )
    elif split.recipe % split.repeats:
        notes.append(
            f'{split.recipe} clips a step are no whole number of videos with '
            f'{split.repeats} clips each; here a step has {split.clips}.'
        )
    elif split.clips != split.recipe:
        fits = [
            n for n in range(1, split.largest + 1) if not split.largest % n
        ]
        below = max(n for n in fits if n < gpus)
        above = min(n for n in fits if n > gpus)
        notes.append(
            f'{split.recipe} clips a step cannot be divided among {gpus} GPUs '
            f'x {split.repeats} clips of each video; {below} or {above} GPUs '
            f'can. Here a step has {split.clips}.'
        )
    if gpus % machine.gpus_of_node:
        notes.append(
            f'{gpus} GPUs do not fill their {machine.nodes} nodes of '
            f'{machine.per_node}: HSDP, which needs that, is told as if they '
            'did.'
        )
    if machine.memory:
        large = [
            f'{name.upper()} ({used.total / 1e9:.1f} GB)'
            for name, used in memory.items()
            if used.total > machine.memory
        ]
        if large:
            notes.append(
                f'More than the {machine.memory / 1e9:g} GB of a GPU, with '
                f'{split.videos} videos on each: {", ".join(large)}.'
            )
    return notes
