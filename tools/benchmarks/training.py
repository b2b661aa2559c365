# Copyright (c) MotionMAE contributors. All rights reserved.
"""Measure loader, model and trainer of a config, alone and together.

Says which side limits, and how many cores load clips for a device.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmmotionmae.apis import load_config
from mmmotionmae.cli.arguments import (
    ConfigOptions,
    int_from,
    positive,
    refuse_old_files,
)

from .clips import Source
from .common import (
    ROOT,
    Clock,
    add_device_argument,
    add_file_arguments,
    find_device,
    origin,
    publish,
    say,
    usable_cpus,
)
from .training_report import markdown
from .training_runs import SIDES, measure, whole_bursts
from .training_setup import (
    Setting,
    apply_setting,
    clips_per_video,
    data_set_of,
    on_device,
    read_generated,
    set_mixed_precision,
    without_side_effects,
    write_generated,
)

DEFAULT = (
    'configs/motionmae/motionmae_vit-base-p16_32xb64-16x2x1-amp-800e_'
    'sthv2-rgb.py'
)
# A step of the default config is 64 clips, minutes for a CPU.
CPU_CLIPS_PER_STEP = 4
GENERATED = 8


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py training', description=__doc__.split('\n')[0]
    )
    add = parser.add_argument
    add(
        'config',
        nargs='?',
        help='config file (default: the ViT-B pre-training on generated clips '
        'with no more workers than cores; on a CPU with '
        f'{CPU_CLIPS_PER_STEP} clips a step)',
    )
    add(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='override settings of the config: key=value',
    )
    add(
        '--generate',
        type=int_from(1),
        metavar='N',
        help='train on N generated clips instead of the data of the config '
        f'(default without a config: {GENERATED})',
    )
    add(
        '--clip-size',
        nargs=3,
        type=int_from(1),
        default=[340, 256, 300],
        metavar=('W', 'H', 'T'),
        help='width, height and frames of generated clips (default: 340 256 '
        '300)',
    )
    add(
        '--num-workers',
        nargs='+',
        type=int_from(0),
        metavar='W',
        help='processes of the loader (default: as in the config)',
    )
    add(
        '--repeats',
        nargs='+',
        type=int_from(1),
        metavar='R',
        help='clips made of a video once it is decoded (default: as in the '
        'config)',
    )
    add(
        '--clips-per-step',
        type=int_from(1),
        help='clips in a batch, whatever R is (default: as in the config)',
    )
    add(
        '--amp',
        choices=['bf16', 'fp16', 'off'],
        help='mixed precision (default: as in the config)',
    )
    add(
        '--measure',
        nargs='+',
        choices=SIDES,
        default=list(SIDES),
        help='what to measure (default: everything)',
    )
    add(
        '--num-steps',
        type=int_from(1),
        default=10,
        help='steps to time, up to a multiple of the workers (default: 10)',
    )
    add(
        '--warmup',
        type=int_from(1),
        default=2,
        help='steps before that, likewise (default: 2)',
    )
    add(
        '--gpu-clips-per-second',
        type=positive,
        metavar='X',
        help='also tell how many cores feed a device of this speed',
    )
    add_device_argument(parser)
    add_file_arguments(parser)
    return parser.parse_args(argv)


def benchmark(
    args: argparse.Namespace, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Do what the command line says.

    Args:
        args: What :func:`parse_args` returns.
        clock: Tells the time.

    Returns:
        All figures, as in the JSON file, and ``'markdown'``.

    Raises:
        UsageError: For files that exist, a device that does not, or a config
            that cannot be run.
    """
    refuse_old_files([args.out, args.json], args.overwrite)
    device = find_device(args.device)
    cfg = load_config(args.config or str(ROOT / DEFAULT), args.cfg_options)
    workers, clips = defaults(args, cfg, device)
    settings = [
        Setting(repeats, number)
        for repeats in sorted(set(args.repeats or [clips_per_video(cfg)]))
        for number in sorted(set(workers))
    ]
    facts = origin(args, device)
    with tempfile.TemporaryDirectory() as name, on_device(device):
        folder = Path(name)
        set_mixed_precision(cfg, args.amp)
        without_side_effects(cfg, folder / 'work_dir')
        source = None
        generated = args.generate or (0 if args.config else GENERATED)
        if generated:
            say(f'generating {generated} clips')
            source = write_generated(cfg, folder, generated, args.clip_size)
        # All of them first, so that a mistake shows before anything is timed.
        configs = {
            setting: _config_of(cfg, setting, clips, source, args)
            for setting in settings
        }
        figures = [
            measure(
                config,
                setting,
                device,
                args.measure,
                args.num_steps,
                args.warmup,
                args.gpu_clips_per_second,
                clock,
            )
            for setting, config in configs.items()
        ]
    about = source.about if source else 'the data of the config'
    name = Path(args.config or DEFAULT).name
    return publish(
        args,
        facts,
        [f'**{name}**, {about}', markdown(figures)],
        rows=[one.as_dict() for one in figures],
        data=about,
    )


def defaults(
    args: argparse.Namespace, cfg: Config, device: torch.device
) -> tuple[list[int], int]:
    """Workers, and clips in a step."""
    data_set_of(cfg)  # there must be one
    loader = cfg.train_dataloader
    workers = loader.get('num_workers', 0)
    clips = loader.batch_size * clips_per_video(cfg)
    if args.config is None:
        workers = min(workers, usable_cpus())
        if device.type == 'cpu':
            clips = CPU_CLIPS_PER_STEP
    return args.num_workers or [workers], args.clips_per_step or clips


def _config_of(
    cfg: Config,
    setting: Setting,
    clips: int,
    source: Source | None,
    args: argparse.Namespace,
) -> Config:
    """The config of one setting."""
    cfg = copy.deepcopy(cfg)
    apply_setting(cfg, setting, clips)
    if source is not None:
        loader = cfg.train_dataloader
        number = setting.num_workers
        batches = whole_bursts(args.warmup, number)
        batches += max(whole_bursts(args.num_steps, number), 2 * number)
        # So that the loader has more to do until the end.
        batches += number * loader.get('prefetch_factor', 2) + 1
        read_generated(cfg, source, batches * loader.batch_size)
    return cfg
