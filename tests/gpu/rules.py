# Copyright (c) MotionMAE contributors. All rights reserved.
"""Small operations that show what the mock device takes for CUDA's rules.

A process of its own; prints, by name, how often the host waited, or that
devices do not go together, or that there is no such thing on a GPU.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools/dev'))

from mock_device import NAME, DeviceError, MockGPU  # noqa: E402


def operations() -> dict[str, Callable[[], Any]]:
    """By name."""
    host = torch.arange(6.0)
    ours = host.to(NAME)
    mask, order = ours > 2, torch.tensor([1, 2])
    pinned = host.pin_memory()
    later = dict(device=NAME, non_blocking=True)
    return {
        # Values on the host.
        'item': lambda: ours.sum().item(),
        'float': lambda: float(ours[0]),
        'if': lambda: bool(mask.any()),
        'tolist': ours.tolist,
        'cpu': ours.cpu,
        'cpu, not blocking': lambda: ours.to('cpu', non_blocking=True),
        'numpy': ours.numpy,
        'tensor of tensors': lambda: torch.tensor([ours[0], ours[1]]),
        'allclose': lambda: torch.allclose(ours, ours),
        # Shapes of values.
        'nonzero': ours.nonzero,
        'unique': ours.unique,
        'masked_select': lambda: ours.masked_select(mask),
        'index by mask': lambda: ours[mask],
        'fill by mask': lambda: ours.clone().__setitem__(mask, 0.0),
        'where': lambda: torch.where(mask, ours, 0.0),
        # Copies.
        'to the device': lambda: host.to(NAME),
        'to the device, not pinned': lambda: host.to(**later),
        'to the device, pinned but blocking': lambda: pinned.to(NAME),
        'to the device, pinned': lambda: pinned.to(**later),
        'to the device, part of pinned': lambda: pinned[2:].to(**later),
        'to the device, pinned from the start': lambda: torch.empty(
            3, pin_memory=True
        ).to(**later),
        'tensor on the device': lambda: torch.tensor([1.0], device=NAME),
        'full on the device': lambda: torch.full((2,), 3.0, device=NAME),
        'copy_': lambda: ours.clone().copy_(host),
        'assign from the host': lambda: ours.clone().__setitem__(
            slice(2), host[:2]
        ),
        # Indices.
        'index by list': lambda: ours[[0, 1]],
        'index by host tensor': lambda: ours[order],
        'index by device tensor': lambda: ours[ours.argmax(keepdim=True)],
        'index by number': lambda: ours[3],
        'slice by host numbers': lambda: ours[order[0] : order[1]],
        # Devices that do not go together.
        'add host': lambda: ours + host,
        'add number of the host': lambda: ours + torch.tensor(2.0),
        'cat host': lambda: torch.cat([ours, host]),
        'stack number of the host': lambda: torch.stack([ours[0], host[0]]),
        'index of host by device': lambda: host[ours.long()],
        'select by host': lambda: ours.index_select(0, order),
        'linear with host weights': lambda: nn.functional.linear(
            ours, host[None]
        ),
        'generator of the host': lambda: torch.rand(
            3, device=NAME, generator=torch.Generator()
        ),
    }


def training() -> dict[str, Any]:
    """Three steps of a small network on the CPU and on the device."""
    found = []
    for device in ('cpu', NAME):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)
        ).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), fused=True)
        x = torch.randn(5, 4).to(device)
        with gpu.recording() as waits:
            for _ in range(3):
                loss = network(x).square().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
        values = [p.detach().cpu() for p in network.parameters()]
        found.append((torch.cat([v.flatten() for v in values]), len(waits)))
    (cpu, _), (ours, count) = found
    return dict(waits=count, difference=(cpu - ours).abs().max().item())


if __name__ == '__main__':
    outcomes: dict[str, Any] = {}
    with MockGPU() as gpu:
        for name, operation in operations().items():
            with gpu.recording() as waits:
                try:
                    operation()
                    outcomes[name] = len(waits)
                except DeviceError:
                    outcomes[name] = 'devices'
                except (RuntimeError, TypeError) as error:
                    outcomes[name] = type(error).__name__
        outcomes['training'] = training()
    print(json.dumps(outcomes))
