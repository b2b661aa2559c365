# Copyright (c) MotionMAE contributors. All rights reserved.
"""What a training needs of a cluster: batch, memory, data, network, disks.

Each formula is in docs/clusters.md, under "Planning a cluster".
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ...utils.errors import UsageError
from .collectives import (
    Links,
    Parameters,
    Traffic,
    ddp_traffic,
    fsdp_traffic,
    hsdp_traffic,
    sharded_bytes,
)
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
VIDEO_BYTES = 424e3
HIDDEN = dict(ddp=2 / 3, fsdp2=1.0, hsdp=1.0)  # of the computation


@dataclass(frozen=True)
class Machine:
    """GPUs and what connects them, as a person knows it; None: unknown.

    Attributes:
        gpus: In all.
        per_node: GPUs of a node.
        memory: Of a GPU, in bytes.
        flops: FLOPs that a GPU reaches in a second.
        clips_per_second: That a GPU trains on; before ``flops``.
        outside: Bytes a second of a node to the others.
        inside: Bytes a second of a GPU to the others of its node.
        clips_per_core: Of the loader, in a second.
        video_bytes: Of a file.
        storage: Bytes a second that a node reads and writes.
    """

    gpus: int
    per_node: int = 8
    memory: float | None = None
    flops: float | None = None
    clips_per_second: float | None = None
    outside: float | None = None
    inside: float | None = None
    clips_per_core: float | None = None
    video_bytes: float = VIDEO_BYTES
    storage: float | None = None

    @property
    def nodes(self) -> int:
        """Nodes that are needed."""
        return ceil(self.gpus / self.per_node)

    @property
    def gpus_of_node(self) -> int:
        """GPUs of the fullest node."""
        return min(self.gpus, self.per_node)

    @property
    def links(self) -> Links:
        """What connects them."""
        return Links(self.inside, self.outside, self.per_node)


@dataclass(frozen=True)
class Split:
    """How a batch is divided among GPUs.

    Attributes:
        videos: On a GPU at a time.
        repeats: Clips of each.
        accumulated: Batches of a step.
        clips: Of a step, on all GPUs.
        recipe: Clips that the recipe has.
        largest: GPUs at most, with a video each.
    """

    videos: int
    repeats: int
    accumulated: int
    clips: int
    recipe: int
    largest: int


def split_batch(recipe: int, repeats: int, gpus: int, most: int) -> Split:
    """Divide a batch among GPUs so that it stays as it is.

    As few batches are accumulated as there can be. Where the batch cannot be
    divided, each GPU gets as many videos as would make a smaller one, or one.

    Args:
        recipe: Clips of a step.
        repeats: Clips of each video.
        gpus: To divide it among.
        most: Videos that a GPU takes at a time.
    """
    share = max(1, recipe // (repeats * gpus))
    accumulated = next(
        n for n in range(1, share + 1) if share % n == 0 and share // n <= most
    )
    return Split(
        share // accumulated,
        repeats,
        accumulated,
        share * repeats * gpus,
        recipe,
        recipe // repeats,
    )


def trained_parameters(model: nn.Module) -> Parameters:
    """Parameters as FSDP2 gathers them: blocks, and what is in none."""
    blocks = [block for blocks in block_lists(model) for block in blocks]
    sizes = [_count(block) for block in blocks]
    return Parameters(
        tuple(tuple(p.shape) for p in model.parameters()),
        sum(p.numel() for p in model.parameters() if p.requires_grad),
        max(sizes, default=0),
        _count(model) - sum(sizes),
    )


def block_lists(model: nn.Module) -> Iterator[Any]:
    """Lists of blocks that are gathered one at a time, by their name."""
    for name, module in model.named_modules():
        if name.split('.')[-1] == 'blocks' and hasattr(module, '__iter__'):
            yield module


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


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
        return _memory(cfg, network, parameters, machine, videos * own.repeats)

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


def _memory(
    cfg: Config,
    network: Network,
    parameters: Parameters,
    machine: Machine,
    clips: int,
) -> dict[str, Memory]:
    """Of a GPU, in each way to train."""
    half, states = is_half(cfg), states_of(cfg)
    width = _gathered_width(cfg)
    ddp = memory_of(network, clips, half, states, machine.gpus > 1)
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
    """What a node reads, decodes and keeps in shared memory."""
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
    """What does not fit, a line each."""
    notes, gpus = [], machine.gpus
    if gpus > split.largest:
        notes.append(
            f'{gpus} GPUs are more than the recipe allows: its {split.recipe} '
            f'clips a step end at {split.largest} GPUs with one video of '
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
