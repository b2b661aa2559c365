# Copyright (c) MotionMAE contributors. All rights reserved.
"""Make the table of docs/user_guides/clusters.md: up to 1024 GPUs.

What a GPU and its links reach is assumed, see the page; everything else comes
from the configs. Run it after a change of a recipe or of a formula; a test
says that it changes nothing.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='make the table of docs/user_guides/clusters.md'
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; exit with 1 if it is not up to date',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmengine.config import Config

import mmmotionmae  # noqa: F401  (registers everything)
from mmmotionmae.apis.cost import Machine, describe, plan
from mmmotionmae.apis.cost.cluster_text import HEADS, cluster_row
from mmmotionmae.apis.cost.network import read_network

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs/user_guides/clusters.md'
MARKERS = re.compile(
    r'(?<=<!-- clusters -->\n).*?(?=<!-- /clusters -->)', re.S
)
CONFIGS = {
    'ViT-B': 'vit-base-p16_32xb64-16x4x1-amp-1600e',
    'ViT-L': 'vit-large-p16_16xb32-16x4x1-amp-1600e',
    'ViT-H': 'vit-huge-p16_32xb32-16x4x1-amp-1600e',
    'ViT-g': 'vit-giant-p14_64xb128-16x4x1-amp-1200e',
}
GPUS = (8, 64, 256, 1024)
ASSUMED = Machine(
    1, memory=80e9, flops=400e12, outside=400e9, inside=450e9, storage=10e9
)


def table() -> str:
    """The table, in Markdown."""
    lines: list[tuple[str, ...]] = [('', *HEADS)]
    for name, config in CONFIGS.items():
        path = f'configs/motionmae/motionmae_{config}_kinetics400-rgb.py'
        cfg = Config.fromfile(ROOT / path)
        network, found = read_network(cfg), describe(cfg)
        for gpus in GPUS:
            machine = replace(ASSUMED, gpus=gpus)
            planned = plan(cfg, machine, found, network=network)
            lines.append((name, *cluster_row(planned)))
    head, *body = (f'| {" | ".join(line)} |\n' for line in lines)
    rule = '|'.join(['---', '---:', '---', *['---:'] * (len(HEADS) - 2)])
    return f'{head}|{rule}|\n{"".join(body)}'


def with_table(page: str) -> str:
    """The text of the page, its table made anew."""
    new, count = MARKERS.subn(lambda _: table(), page)
    if count != 1:
        raise ValueError(f'{count} places for the table, not one')
    return new


def main() -> int:
    """Write the table if it has changed."""
    args = parse_args()
    old = PAGE.read_text()
    new = with_table(old)
    if new != old and not args.check:
        PAGE.write_text(new)
    return int(args.check and new != old)


if __name__ == '__main__':
    sys.exit(main())
