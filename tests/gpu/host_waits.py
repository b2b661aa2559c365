# Copyright (c) MotionMAE contributors. All rights reserved.
"""Count the waits of the host, path by path, beside the CPU's values.

``python tests/gpu/host_waits.py`` prints a table; ``--json`` all that was
found; names choose paths by the words that they start with. It registers the
mock device, so it is a process of its own.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [
    str(ROOT / folder) for folder in ('tests', 'tools', 'tools/dev')
]

from gpu.paths import PATHS, Device, Outcome  # noqa: E402
from helpers.global_state import isolated  # noqa: E402
from mock_device import MockGPU, count  # noqa: E402


def difference(ours: Outcome, cpu: Outcome) -> float:
    """The largest, relative to the largest value of each kind above 1."""
    assert ours.values.keys() == cpu.values.keys()
    worst = 0.0
    for name, expected in cpu.values.items():
        found = ours.values[name]
        assert found.shape == expected.shape and found.dtype == expected.dtype
        error = (found.double() - expected.double()).abs().max()
        scale = expected.double().abs().max().clamp(min=1)
        worst = max(worst, (error / scale).item())
    return worst


def measure(name: str) -> dict[str, Any]:
    """Run a path on both.

    Returns:
        ``unit``; ``waits``: how many, of each unit; ``where``: how often,
        by reason and place; ``difference`` of the values; ``values``: how
        many were compared.
    """
    outcomes = []
    gpu = MockGPU()
    for device in (Device(), Device(gpu)):
        with isolated(), gpu:
            logging.disable(logging.WARNING)
            outcomes.append(PATHS[name](device))
            logging.disable(logging.NOTSET)
    cpu, ours = outcomes
    waits = [wait for unit in ours.waits for wait in unit]
    return dict(
        unit=ours.unit,
        waits=[len(unit) for unit in ours.waits],
        where=count(waits),
        difference=difference(ours, cpu),
        values=len(cpu.values),
    )


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        '| path | waits of the host | values differ by |',
        '|---|---:|---:|',
    ]
    for name, path in found.items():
        waits = path['waits']
        each = ', '.join(map(str, dict.fromkeys(waits)))
        lines.append(
            f'| {name} | {each} a {path["unit"]} | {path["difference"]:.0e} |'
        )
    return '\n'.join(lines)


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', help='default: all')
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [
        name
        for name in PATHS
        if not args.names or name.startswith(tuple(args.names))
    ]
    found = {name: measure(name) for name in chosen}
    print(json.dumps(found) if args.json else table(found))


if __name__ == '__main__':
    main()
