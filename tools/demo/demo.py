# Copyright (c) MotionMAE contributors. All rights reserved.
"""The main job from end to end, on a CPU, with a report.

Without arguments: generate videos, pre-train MotionMAE and VideoMAE on them,
fine-tune both and the same network from scratch, test, segment objects with
the frozen encoders, report. With
``--videos DIR``: pre-train MotionMAE on the videos below that folder, report.

Every step is a call of ``tools/train.py`` or ``tools/test.py``; two run at a
time, each on one core. What they print goes to ``logs/``.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--videos', type=Path, help='pre-train on the videos in this folder'
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='a few steps of everything, to see that it works; the figures '
        'mean nothing',
    )
    parser.add_argument(
        '--out-dir',
        type=Path,
        help='where everything goes (default: work_dirs/demo, or '
        'work_dirs/demo_videos with --videos)',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

import numpy as np
import segmentation
from jobs import ROOT, DemoError, Job, Results, Stage, train_job

from mmmotionmae.cli.splits import last_checkpoint
from mmmotionmae.utils.files import set_aside

CONFIGS = Path('configs/demo')
MOTIONMAE = 'pixels + motion (MotionMAE)'
VIDEOMAE = 'pixels only (VideoMAE)'
PRETRAIN = {
    VIDEOMAE: CONFIGS
    / 'videomae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py',
    MOTIONMAE: CONFIGS
    / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py',
}
# Seconds, about: what the time left is told by.
COSTS = {MOTIONMAE: 240.0, VIDEOMAE: 200.0}
FINETUNE_COST = 6.0
FINETUNE = (
    CONFIGS / 'vit-tiny-p8_motionmae-pre_1xb32-8x1x1-15e_moving-shapes.py'
)
SCRATCH = CONFIGS / 'vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py'
VIDEOS = CONFIGS / 'motionmae_vit-tiny-p8_1xb16-16x2x1-40e_videos.py'
CHECKPOINT_OPTION = 'model.backbone.init_cfg.checkpoint'


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        num_pretrain: Unlabelled videos.
        num_train: Labelled videos.
        num_val: Test videos.
        seeds: Of the fine-tuning.
        pretrain_options: Changes of the pre-training configs.
        finetune_options: Changes of the fine-tuning configs.
        steps: Of pre-training on a user's videos.
    """

    num_pretrain: int = 2000
    num_train: int = 128
    num_val: int = 500
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    pretrain_options: tuple[str, ...] = ()
    finetune_options: tuple[str, ...] = ()
    steps: int = 800


QUICK = Scale(
    num_pretrain=64,
    num_train=64,
    num_val=32,
    seeds=(0, 1),
    pretrain_options=('train_cfg.max_epochs=2',),
    finetune_options=('train_cfg.max_epochs=1',),
    steps=4,
)


def make_room(folder: Path) -> None:
    """Keep what an earlier run has left there, under another name."""
    if folder.exists():
        print(f'What was in {folder} is now in {set_aside(folder)}')


def demo_shapes(out_dir: Path, data: Path, scale: Scale) -> Path:
    """Run the demo on generated videos; returns the report."""
    from mmmotionmae.datasets.moving_shapes import write_dataset

    print(f'Generated videos: {data}', flush=True)
    os.environ['DEMO_DATA'] = str(data)
    write = partial(
        write_dataset,
        data,
        scale.num_pretrain,
        scale.num_train,
        scale.num_val,
        # Flat shapes, on which the fine-tuned are tested, and textured ones.
        pretrain_levels=(0, 1, 0, 2),
        num_davis=10,
        davis_level=2,
        num_processes=2,
    )
    try:
        write()
    except FileExistsError:  # of another version, or of the user's own
        make_room(data)
        write()
    make_room(out_dir)
    results = Results()
    arms = {
        name: out_dir / f'pretrain_{config.name.split("_")[0]}'
        for name, config in PRETRAIN.items()
    }
    first = 'none (from scratch)'
    stage = Stage(out_dir, results, _cost(scale))
    stage.say(
        f'Pre-training on {scale.num_pretrain} unlabelled videos; '
        f'fine-tuning on {scale.num_train} labelled ones, '
        f'{len(scale.seeds)} seeds each, and testing on {scale.num_val}; '
        'segmenting objects with the frozen encoders'
    )

    def follow(name: str) -> list[Job]:
        """What needs the weights of an arm."""
        checkpoint = last_checkpoint(arms[name])
        known = {arm: checkpoint if arm == name else None for arm in arms}
        test = segmentation.plan_jobs(out_dir, known)[f'encoder, {name}']
        return [*finetune_jobs(out_dir, name, checkpoint, scale), test]

    # The longer one first; then, whenever a core is free, what is ready.
    pretrain = {
        name: train_job(
            f'pre-train {name}',
            PRETRAIN[name],
            arms[name],
            options=scale.pretrain_options,
            cost=COSTS[name],
        )
        for name in COSTS
    }
    stage.run(
        [
            *pretrain.values(),
            *finetune_jobs(out_dir, first, None, scale),
            *segmentation.plan_jobs(out_dir, dict.fromkeys(arms)).values(),
        ],
        {job.name: partial(follow, name) for name, job in pretrain.items()},
    )
    stage.pool.shutdown()
    plan = segmentation.plan_jobs(
        out_dir, {name: last_checkpoint(arms[name]) for name in arms}
    )

    accuracies = {
        name: [
            100 * results.metrics[f'fine-tune {name}, seed {seed}']['acc/top1']
            for seed in scale.seeds
        ]
        for name in (first, *arms)
    }
    report = report_shapes(
        out_dir, data, arms, accuracies, plan, results, scale
    )
    print_table(accuracies, scale)
    segmentation.print_table(segmentation.table(plan, results))
    stage.say(f'Report: {report}')
    return report


def _cost(scale: Scale) -> float:
    """Seconds that all jobs take, about, one after the other."""
    finetune = (1 + len(COSTS)) * len(scale.seeds) * FINETUNE_COST
    tests = len(segmentation.BASELINES) + len(segmentation.ORACLE) + len(COSTS)
    return sum(COSTS.values()) + finetune + tests * segmentation.COST


def finetune_jobs(
    out_dir: Path, name: str, checkpoint: Path | None, scale: Scale
) -> list[Job]:
    """The trainings with labels of an arm, one for each seed.

    Args:
        out_dir: The folder of the demo.
        name: Of the arm.
        checkpoint: Of its pre-training; None: from scratch.
        scale: How much is done.
    """
    config, options = SCRATCH, list(scale.finetune_options)
    if checkpoint is not None:
        config = FINETUNE
        options.append(f'{CHECKPOINT_OPTION}={checkpoint}')
    return [
        train_job(
            f'fine-tune {name}, seed {seed}',
            config,
            out_dir / 'finetune' / f'{_slug(name)}_seed{seed}',
            '--seed',
            str(seed),
            options=options,
            cost=FINETUNE_COST,
        )
        for seed in scale.seeds
    ]


def _slug(name: str) -> str:
    return name.split(' (')[-1].rstrip(')').replace(' ', '_').lower()


def print_table(accuracies: dict[str, list[float]], scale: Scale) -> None:
    """The result, for the terminal."""
    width = max(map(len, accuracies))
    seeds = ''.join(f'{f"seed {seed}":>9}' for seed in scale.seeds)
    print(f'\n{"pre-training":<{width}}{seeds}{"mean":>9}{"std":>7}')
    for name, values in accuracies.items():
        cells = ''.join(f'{value:>9.1f}' for value in values)
        print(
            f'{name:<{width}}{cells}{np.mean(values):>9.1f}'
            f'{np.std(values, ddof=1):>7.1f}'
        )
    print(
        f'top-1 accuracy (%) on {scale.num_val} test videos, 8 classes, '
        'chance 12.5\n'
    )


def reconstructions(
    config: Path, checkpoint: Path, options: dict, indices: Sequence[int]
) -> list[dict]:
    """Draw what a pre-trained model makes of some clips of its data set.

    Returns:
        See :func:`demo_report.film_strips`.
    """
    import demo_report as report
    from mmaction.registry import DATASETS, MODELS
    from mmengine.registry import init_default_scope
    from mmengine.runner import load_checkpoint

    from mmmotionmae.apis import load_config
    from mmmotionmae.utils.seeding import SampleIndex
    from mmmotionmae.visualization import reconstruct

    init_default_scope('mmaction')
    cfg = load_config(str(config), options)
    model = MODELS.build(cfg.model)
    load_checkpoint(model, str(checkpoint), map_location='cpu')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    samples = [dataset[SampleIndex(index, seed=index)] for index in indices]
    return report.film_strips(reconstruct(model, samples), model.targets)


def versions() -> str:
    """What it ran on."""
    import mmaction
    import mmengine
    import torch

    import mmmotionmae

    return (
        f'mmmotionmae {mmmotionmae.__version__}, MMAction2 '
        f'{mmaction.__version__}, MMEngine {mmengine.__version__}, PyTorch '
        f'{torch.__version__}, Python {platform.python_version()}, '
        f'{os.cpu_count()} CPUs, {time.strftime("%Y-%m-%d %H:%M")}'
    )


def report_shapes(
    out_dir: Path,
    data: Path,
    arms: dict[str, Path],
    accuracies: dict[str, list[float]],
    plan: Mapping[str, Job],
    results: Results,
    scale: Scale,
) -> Path:
    """Write the report on the generated videos."""
    import demo_report as report
    from reports.drawing import embed_pictures

    rows = []
    for name, values in accuracies.items():
        pretrain = results.seconds.get(f'pre-train {name}')
        finetune = np.mean(
            [
                results.seconds[f'fine-tune {name}, seed {s}']
                for s in scale.seeds
            ]
        )
        rows.append(
            [
                name,
                *(f'{value:.1f}' for value in values),
                f'{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}',
                (f'{pretrain:.0f} + ' if pretrain else '')
                + f'{finetune:.0f} s',
            ]
        )
    means = [np.mean(values) for values in accuracies.values()]
    clips = reconstructions(
        PRETRAIN[MOTIONMAE],
        last_checkpoint(arms[MOTIONMAE]),
        {'train_dataloader.dataset.ann_file': str(data / 'val.txt')},
        indices=(0, 1, 2, 3, 4, 5),
    )
    path = out_dir / 'report.html'
    report.write(
        path,
        title='MotionMAE demo: moving shapes',
        lead='A shape moves over a background in one of eight directions. '
        'Shape, colours, size and place are drawn independently of the '
        'direction: no single frame tells it. Half of the unlabelled videos '
        'are like those; in the others everything has textures of the same '
        'colours, and in half of these the camera moves, too.',
        table=dict(
            text=f'Top-1 accuracy (%) on {scale.num_val} test videos after '
            f'fine-tuning on {scale.num_train} labelled ones, with '
            "MMAction2's Recognizer3D and VisionTransformer. The three rows "
            'differ in the first weights only: random, or pre-trained on '
            f'{scale.num_pretrain} other, unlabelled videos. Mean and '
            f'standard deviation over {len(scale.seeds)} seeds of '
            'fine-tuning; there is one pre-training run for each row. Chance '
            'is 12.5. The time is that of pre-training + fine-tuning and its '
            'test, on one core while another run used the other one.',
            head=[
                'pre-training',
                *(f'seed {s}' for s in scale.seeds),
                'mean ± std',
                'time',
            ],
            rows=rows,
            best=int(np.argmax(means)),
            plot=report.plot_accuracies(accuracies, chance=12.5),
        ),
        curves=report.plot_curves(
            [
                report.Curve.read(name, work_dir)
                for name, work_dir in arms.items()
            ]
        ),
        segmentation=dict(
            text=segmentation.NOTE,
            rows=segmentation.table(plan, results),
            pictures=embed_pictures(segmentation.pictures(plan)),
        ),
        clips=clips,
        reconstruction_note='Test clips, which the network was not trained '
        'on.',
        commands=results.commands,
        versions=versions(),
    )
    return path


def demo_videos(out_dir: Path, folder: Path, scale: Scale) -> Path:
    """Pre-train on a user's videos; returns the report."""
    import demo_report as report

    from mmmotionmae.datasets.annotation import find_videos

    number = len(find_videos(str(folder)))
    os.environ['VIDEOS'] = str(folder)
    make_room(out_dir)
    results = Results()
    stage = Stage(out_dir, results, total=1.0)
    # So many steps of 16 clips, however many videos there are.
    epochs = max(1, round(16 * scale.steps / max(number, 16)))
    stage.say(f'Pre-training on {number} videos below {folder}')
    job = train_job(
        'pre-train',
        VIDEOS,
        out_dir / 'pretrain',
        options=[
            f'train_cfg.max_epochs={epochs}',
            f'param_scheduler.0.end={max(1, epochs // 10)}',
            f'param_scheduler.1.begin={max(1, epochs // 10)}',
            f'param_scheduler.1.end={max(2, epochs)}',
            f'default_hooks.checkpoint.interval={max(1, epochs // 4)}',
        ],
    )
    stage.run([job])
    stage.pool.shutdown()
    checkpoint = last_checkpoint(job.work_dir)
    clips = reconstructions(
        VIDEOS, checkpoint, {}, indices=range(min(number, 4))
    )
    path = out_dir / 'report.html'
    report.write(
        path,
        title='MotionMAE demo: your videos',
        lead=f'Pre-training on the {number} videos below {folder}, with a '
        'network and clips sized for a CPU.',
        table=None,
        segmentation=None,
        curves=report.plot_curves(
            [report.Curve.read('MotionMAE', job.work_dir)]
        ),
        clips=clips,
        reconstruction_note='Clips of the videos that the network was '
        'trained on. Some minutes on a CPU are enough for coarse colours, '
        'seldom for motion: R² above tells whether it was learned at all.',
        commands=results.commands,
        versions=versions(),
    )
    stage.say(f'Checkpoint: {checkpoint}')
    stage.say(f'Report: {path}')
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    args = parse_args(argv)
    videos = args.videos and args.videos.resolve()
    name = 'demo_videos' if videos else 'demo'
    out_dir = args.out_dir and args.out_dir.resolve()
    out_dir = out_dir or Path('work_dirs') / (
        f'{name}_quick' if args.quick else name
    )
    scale = QUICK if args.quick else Scale()
    if Path.cwd() != ROOT:  # such as that of an installed package
        out_dir = out_dir.resolve()
    os.chdir(ROOT)
    try:
        if videos:
            demo_videos(out_dir, videos, scale)
        else:
            # Beside the results, so that the next run finds it.
            data = out_dir.with_name(f'{out_dir.name}_data')
            demo_shapes(out_dir, data, scale)
    except (DemoError, OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
