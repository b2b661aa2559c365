#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Take a step of each family of configs on CUDA without a GPU or values.

PyTorch's fake tensors know shapes, types and devices only. An operation on
tensors of two devices fails here as it would on a GPU, and so does one that
needs values, for which a GPU would keep the host waiting. The operators are
CUDA's own, where `tools/dev/mock_device.py` computes with the CPU's.

It needs a PyTorch that is built for CUDA, but no GPU and no driver:

    pip install torch --index-url https://download.pytorch.org/whl/cu130
    python tools/dev/fake_cuda.py

`--device cpu` tries the script with any PyTorch.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_check import FAMILIES


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--device', choices=['cuda', 'cpu'], default='cuda')
    add(
        '--families',
        nargs='+',
        choices=FAMILIES,
        default=FAMILIES,
        metavar='FAMILY',
        help=f'some of: {", ".join(FAMILIES)} (default: all)',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gpu_steps
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.running import run_tool


def take_step(family: str, device: str) -> dict[str, Any]:
    """Forward, backward and optimiser of a tiny network, without values.

    Batches are made on the host, in earnest, for the indices of masks have
    values.

    Args:
        family: One of ``FAMILIES``.
        device: Where the fake tensors are said to be.

    Returns:
        ``device`` of the loss, ``trained``: parameters with a gradient.
    """
    with tempfile.TemporaryDirectory() as folder:
        cfg = gpu_steps.read_config(family, True, folder)
    network = MODELS.build(cfg.model)
    network.init_weights()
    network.train()
    samples = gpu_steps.make_samples(cfg, 2, 1)
    data = network.data_preprocessor(gpu_steps.collate(samples, False), True)
    with FakeTensorMode() as mode:

        def fake(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return mode.from_tensor(value).detach().to(device)

        for module in network.modules():
            for name, tensor in list(module._parameters.items()):
                if tensor is not None:
                    module._parameters[name] = nn.Parameter(
                        fake(tensor), tensor.requires_grad
                    )
            for name, tensor in list(module._buffers.items()):
                module._buffers[name] = fake(tensor)
        for sample in data['data_samples']:
            if 'gt_label' in sample:
                sample.set_gt_label(fake(sample.gt_label))
        inputs = tree_map(fake, data['inputs'])
        losses = network(inputs, data['data_samples'], mode='loss')
        loss, _ = network.parse_losses(losses)
        loss.backward()
        trained = [p for p in network.parameters() if p.grad is not None]
        torch.optim.AdamW(trained, foreach=True).step()
    return dict(device=loss.device.type, trained=len(trained))


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and turn a user's mistakes into one line."""

    def run() -> None:
        args = parse_args(argv)
        if args.device == 'cuda' and not torch.backends.cuda.is_built():
            raise UsageError(
                f'PyTorch {torch.__version__} is not built for CUDA: install '
                'one that is (no GPU is needed), or try --device cpu.'
            )
        init_default_scope('mmaction')
        for family in args.families:
            if args.device == 'cpu' and family.endswith('-probe'):
                continue  # on a CPU, MMAction2 scores hard labels by NumPy
            found = take_step(family, args.device)
            print(
                f'{family}: a step on {found["device"]}, '
                f'{found["trained"]} parameters trained'
            )

    return run_tool(run)


if __name__ == '__main__':
    sys.exit(main())
