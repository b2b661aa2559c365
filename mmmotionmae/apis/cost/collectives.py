# Copyright (c) MotionMAE contributors. All rights reserved.
"""Bytes that processes send each other, and that each of them keeps.

Of DDP and FSDP2, on paper. The formulas are those of ring algorithms, which
send the least that is possible: of n processes each sends S(n - 1)/n bytes to
gather or to reduce-scatter S bytes, and twice as many to all-reduce them.
FSDP2 cuts a parameter along its first dimension d into n parts of ceil(d / n),
the last ones padded, so that it gathers more than the parameter's bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from torch import nn

SINGLE = 4  # bytes of a float32


def gathered(num_bytes: float, processes: int) -> float:
    """Bytes that each process sends to gather, or to reduce-scatter.

    Args:
        num_bytes: Of the whole, in all processes together.
        processes: n.
    """
    return num_bytes * (processes - 1) / processes


def all_reduced(num_bytes: float, processes: int) -> float:
    """Bytes that each process sends to sum what all of them have."""
    return 2 * gathered(num_bytes, processes)


def shard_values(shapes: Iterable[Sequence[int]], processes: int) -> int:
    """Values that each process keeps of parameters, with FSDP2's padding.

    Args:
        shapes: Of the parameters.
        processes: That they are divided among.
    """
    return sum(
        ceil(shape[0] / processes) * prod(shape[1:]) if shape else 1
        for shape in shapes
    )


@dataclass(frozen=True)
class Links:
    """Speeds of what connects GPUs, in bytes a second; None: not known.

    Attributes:
        inside: Of a GPU to the others of its node.
        outside: Of a node to the others, all of its cards together.
        per_node: GPUs of a node.
    """

    inside: float | None
    outside: float | None
    per_node: int

    def seconds(self, sent: float, processes: int) -> float | None:
        """Time of a ring over all GPUs.

        It leaves each node once, so that what a GPU sends is also what its
        node sends; the slower link decides.

        Args:
            sent: Bytes of each process.
            processes: n; where they are no more than a node has, nothing
                leaves it.
        """
        if processes == 1:
            return 0.0
        links = [self.inside]
        if processes > self.per_node:
            # Of a link that is not known, the network is the slower one.
            links = [self.outside, self.inside or self.outside]
        known = [link for link in links if link is not None]
        return sent / min(known) if len(known) == len(links) else None


@dataclass(frozen=True)
class Traffic:
    """Bytes sent for one step of the optimiser, and the time they take.

    Attributes:
        sent: Bytes that each GPU sends.
        seconds: That it takes; None if a link's speed is not known.
    """

    sent: float
    seconds: float | None


@dataclass(frozen=True)
class Parameters:
    """Shapes of what is trained, and of what is gathered at a time.

    Attributes:
        shapes: Of all parameters.
        trained: Values of those with gradients.
        block: Values of the largest block.
        root: Values of what is in no block.
    """

    shapes: tuple[tuple[int, ...], ...]
    trained: int
    block: int
    root: int

    @property
    def total(self) -> int:
        """Values of all."""
        return sum(map(prod, self.shapes))


def ddp_traffic(parameters: Parameters, gpus: int, links: Links) -> Traffic:
    """DDP: gradients in float32 are summed once a step."""
    sent = all_reduced(SINGLE * parameters.trained, gpus)
    return Traffic(sent, links.seconds(sent, gpus))


def fsdp_traffic(
    parameters: Parameters, gpus: int, links: Links, width: int, batches: int
) -> Traffic:
    """FSDP2 over all GPUs.

    Each accumulated batch gathers the weights twice, for the forward and the
    backward pass, and reduce-scatters gradients in float32.

    Args:
        parameters: Of the model.
        gpus: n.
        links: Speeds.
        width: Bytes of a value that is gathered.
        batches: Accumulated for a step.
    """
    whole = gpus * shard_values(parameters.shapes, gpus)
    sent = batches * gathered(whole * (2 * width + SINGLE), gpus)
    return Traffic(sent, links.seconds(sent, gpus))


def hsdp_traffic(
    parameters: Parameters, gpus: int, links: Links, width: int, batches: int
) -> Traffic:
    """HSDP: FSDP2 inside each node, and gradients summed over the nodes.

    Each GPU sums its own part with those of the same part in other nodes, all
    GPUs of a node at the same time.
    """
    inside = min(gpus, links.per_node)
    nodes = ceil(gpus / links.per_node)
    shard = fsdp_traffic(parameters, inside, links, width, batches)
    if nodes == 1:
        return shard
    values = shard_values(parameters.shapes, inside)
    over = batches * all_reduced(SINGLE * values, nodes)
    seconds = None
    if shard.seconds is not None and links.outside is not None:
        seconds = shard.seconds + inside * over / links.outside
    return Traffic(shard.sent + over, seconds)


def sharded_bytes(
    parameters: Parameters, processes: int, width: int, states: int
) -> tuple[int, int, int]:
    """Bytes of weights, gradients and optimiser on each process, FSDP2.

    Beside its shards a process holds, at the peak, what is in no block and two
    blocks, gathered; and the gradient of a block, as it was computed and in
    float32.

    Args:
        parameters: Of the model.
        processes: That they are divided among.
        width: Bytes of a value that is gathered.
        states: Values that the optimiser keeps for each weight.
    """
    shard = SINGLE * shard_values(parameters.shapes, processes)
    trained = round(shard * parameters.trained / parameters.total)
    moment = width * (parameters.root + 2 * parameters.block)
    gradient = (width + SINGLE) * parameters.block
    return shard + moment, trained + gradient, trained * states


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
