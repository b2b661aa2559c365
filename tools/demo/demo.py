# Copyright (c) MotionMAE contributors. All rights reserved.
"""The main job from end to end, on a CPU, with a report.

Without arguments: generate videos, pre-train MotionMAE and VideoMAE on them,
fine-tune both and the same network from scratch, test, report. With
``--videos DIR``: pre-train MotionMAE on the videos below that folder, report.

Every step is a call of ``tools/train.py`` or ``tools/test.py``; two run at a
time, each on one core. What they print goes to ``logs/``.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
CONFIGS = Path('configs/demo')
MOTIONMAE = 'pixels + motion (MotionMAE)'
PRETRAIN = {
    'pixels only (VideoMAE)': CONFIGS
    / 'videomae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py',
    MOTIONMAE: CONFIGS
    / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py',
}
FINETUNE = (
    CONFIGS / 'vit-tiny-p8_motionmae-pre_1xb32-8x1x1-15e_moving-shapes.py'
)
SCRATCH = CONFIGS / 'vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py'
VIDEOS = CONFIGS / 'motionmae_vit-tiny-p8_1xb16-16x2x1-40e_videos.py'
CHECKPOINT_OPTION = 'model.backbone.init_cfg.checkpoint'


class DemoError(RuntimeError):
    """The demo cannot go on."""


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


@dataclass(frozen=True)
class Job:
    """One call of a tool.

    Attributes:
        name: For the progress line and the log file.
        tool: ``'train'`` or ``'test'``.
        args: Its arguments.
        work_dir: Where it writes.
    """

    name: str
    tool: str
    args: tuple[str, ...]
    work_dir: Path

    @property
    def command(self) -> str:
        """The same call from a shell."""
        return f'python tools/{self.tool}.py {shlex.join(self.args)}'


@dataclass
class Results:
    """What the jobs gave.

    Attributes:
        seconds: Duration of each job.
        metrics: Metrics of each test.
        commands: All commands, in order.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)


def run_job(
    job: Job, log: Path, alone: bool
) -> tuple[float, dict[str, float]]:
    """Run a job in this process; its output goes to a file.

    Args:
        job: What to run.
        log: The file.
        alone: Whether it has all cores to itself.

    Returns:
        Seconds, and the metrics of a test.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'w') as file, redirect_stdout(file), redirect_stderr(file):
        import torch

        if not alone:
            torch.set_num_threads(1)
        sys.path[:0] = [str(ROOT / 'tools')]
        start = time.perf_counter()
        metrics: dict[str, float] = {}
        if job.tool == 'train':
            import train

            train.train(train.parse_args(job.args))
        else:
            import test

            metrics = test.test(test.parse_args(job.args))
    return time.perf_counter() - start, metrics


def last_scalars(work_dir: Path) -> dict[str, float]:
    """The last line that a training logged, if there is one."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    lines = files[-1].read_text().splitlines() if files else []
    rows = [json.loads(line) for line in lines if line.endswith('}')]
    return next((row for row in reversed(rows) if 'loss' in row), {})


class Stage:
    """Runs jobs two at a time and tells how they go."""

    def __init__(self, out_dir: Path, results: Results) -> None:
        self.out_dir = out_dir
        self.results = results
        self.start = time.perf_counter()
        # Forked workers would inherit the threads of this process.
        self.pool = ProcessPoolExecutor(
            max_workers=2, mp_context=multiprocessing.get_context('spawn')
        )

    def say(self, text: str) -> None:
        """Print with the time since the start."""
        minutes, seconds = divmod(int(time.perf_counter() - self.start), 60)
        print(f'[{minutes:02d}:{seconds:02d}] {text}', flush=True)

    def log_of(self, job: Job) -> Path:
        """Where a job's output goes."""
        name = ''.join(c if c.isalnum() else '_' for c in job.name)
        return self.out_dir / 'logs' / f'{name}.txt'

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs to their end.

        Raises:
            DemoError: If one fails; the message shows the end of its log.
        """
        futures = {
            self.pool.submit(
                run_job, job, self.log_of(job), len(jobs) == 1
            ): job
            for job in jobs
        }
        self.results.commands += [job.command for job in jobs]
        pending = set(futures)
        while pending:
            done, pending = wait(
                pending, timeout=10, return_when='FIRST_COMPLETED'
            )
            for future in done:
                self._finish(future, futures[future])
            for future in pending:
                scalars = last_scalars(futures[future].work_dir)
                if scalars and not done:
                    self._show(futures[future], scalars)

    def _show(self, job: Job, scalars: dict[str, float]) -> None:
        values = ', '.join(
            f'{key} {scalars[key]:.3f}'
            for key in ('loss', 'r2_pixel', 'r2_motion_moving', 'top1_acc')
            if key in scalars
        )
        self.say(f'  {job.name}: step {scalars["step"]}, {values}')

    def _finish(self, future: Future, job: Job) -> None:
        try:
            seconds, metrics = future.result()
        except Exception as error:
            log = self.log_of(job)
            lines = log.read_text().splitlines() if log.exists() else []
            end = '\n'.join(lines[-15:])
            self.pool.shutdown(cancel_futures=True)
            raise DemoError(
                f'{job.name} failed: {error}\n{end}\nIts whole output is in '
                f'{log}; to run it alone: {job.command}'
            ) from error
        self.results.seconds[job.name] = seconds
        self.results.metrics[job.name] = metrics
        scores = ', '.join(
            f'{key.split("/")[-1]} {100 * value:.1f} %'
            for key, value in metrics.items()
            if key == 'acc/top1'
        )
        self.say(f'{job.name}: done in {seconds:.0f} s {scores}')


def set_aside(folder: Path) -> None:
    """Rename the folder of an earlier run; nothing is overwritten."""
    if folder.exists():
        stamp = time.strftime(
            '%Y%m%d-%H%M%S', time.localtime(folder.stat().st_mtime)
        )
        earlier = folder.with_name(f'{folder.name}-{stamp}')
        number = 1
        while earlier.exists():
            earlier = folder.with_name(f'{folder.name}-{stamp}-{number}')
            number += 1
        folder.rename(earlier)
        print(f'The earlier run is now in {earlier}')


def train_job(
    name: str, config: Path, work_dir: Path, *args: str, options: Sequence[str]
) -> Job:
    """A call of tools/train.py."""
    cfg_options = ('--cfg-options', *options) if options else ()
    argv = (str(config), '--work-dir', str(work_dir), *args, *cfg_options)
    return Job(name, 'train', argv, work_dir)


def last_checkpoint(work_dir: Path) -> Path:
    """The last checkpoint of a training."""
    path = (work_dir / 'last_checkpoint').read_text()
    return Path(os.path.relpath(path))


def demo_shapes(out_dir: Path, data: Path, scale: Scale) -> Path:
    """Run the demo on generated videos; returns the report."""
    from mmmotionmae.datasets.moving_shapes import write_dataset

    print(f'Generated videos: {data}', flush=True)
    os.environ['DEMO_DATA'] = str(data)
    write_dataset(data, scale.num_pretrain, scale.num_train, scale.num_val)
    results = Results()
    stage = Stage(out_dir, results)
    stage.say(f'Pre-training on {scale.num_pretrain} unlabelled videos')
    arms = {}
    jobs = []
    for name, config in PRETRAIN.items():
        arms[name] = out_dir / f'pretrain_{config.name.split("_")[0]}'
        jobs.append(
            train_job(
                f'pre-train {name}',
                config,
                arms[name],
                options=scale.pretrain_options,
            )
        )
    stage.run(jobs)

    stage.say(
        f'Fine-tuning on {scale.num_train} labelled videos, '
        f'{len(scale.seeds)} seeds each'
    )
    jobs = []
    for seed in scale.seeds:
        for name in ('none (from scratch)', *arms):
            work_dir = out_dir / 'finetune' / f'{_slug(name)}_seed{seed}'
            config, options = SCRATCH, list(scale.finetune_options)
            if name in arms:
                checkpoint = last_checkpoint(arms[name])
                config = FINETUNE
                options.append(f'{CHECKPOINT_OPTION}={checkpoint}')
            jobs.append(
                train_job(
                    f'fine-tune {name}, seed {seed}',
                    config,
                    work_dir,
                    '--seed',
                    str(seed),
                    '--no-validate',
                    options=options,
                )
            )
    stage.run(jobs)

    stage.say(f'Testing on {scale.num_val} videos')
    tests = [
        Job(
            job.name.replace('fine-tune', 'test'),
            'test',
            (
                str(SCRATCH),
                str(last_checkpoint(job.work_dir)),
                '--work-dir',
                str(job.work_dir / 'test'),
            ),
            job.work_dir / 'test',
        )
        for job in jobs
    ]
    stage.run(tests)
    stage.pool.shutdown()

    accuracies = {
        name: [
            100 * results.metrics[f'test {name}, seed {seed}']['acc/top1']
            for seed in scale.seeds
        ]
        for name in ('none (from scratch)', *arms)
    }
    report = report_shapes(out_dir, data, arms, accuracies, results, scale)
    print_table(accuracies, scale)
    stage.say(f'Report: {report}')
    return report


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
) -> dict:
    """What a pre-trained model makes of some clips of its data set."""
    from mmaction.registry import DATASETS, MODELS
    from mmengine.registry import init_default_scope
    from mmengine.runner import load_checkpoint

    from mmmotionmae.apis import load_config
    from mmmotionmae.engine.samplers import SampleIndex
    from mmmotionmae.visualization import reconstruct

    init_default_scope('mmaction')
    cfg = load_config(str(config), options)
    model = MODELS.build(cfg.model)
    load_checkpoint(model, str(checkpoint), map_location='cpu')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    samples = [dataset[SampleIndex(index, seed=index)] for index in indices]
    return reconstruct(model, samples)


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
    results: Results,
    scale: Scale,
) -> Path:
    """Write the report on the generated videos."""
    import report

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
                f'{pretrain:.0f} s' if pretrain else '–',
                f'{finetune:.0f} s',
            ]
        )
    means = [np.mean(values) for values in accuracies.values()]
    videos = reconstructions(
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
        'direction: no single frame tells it.',
        table=dict(
            text=f'Top-1 accuracy (%) on {scale.num_val} test videos after '
            f'fine-tuning on {scale.num_train} labelled ones, with '
            "MMAction2's Recognizer3D and VisionTransformer. The three rows "
            'differ in the first weights only: random, or pre-trained on '
            f'{scale.num_pretrain} other, unlabelled videos. Mean and '
            f'standard deviation over {len(scale.seeds)} seeds of '
            'fine-tuning; there is one pre-training run for each row. Chance '
            'is 12.5. Times are those of one run on one core while another '
            'run used the other core.',
            head=[
                'pre-training',
                *(f'seed {s}' for s in scale.seeds),
                'mean ± std',
                'pre-training time',
                'fine-tuning time',
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
        clips=report.film_strips(videos, zoom=3),
        reconstruction_note='',
        commands=results.commands,
        versions=versions(),
    )
    return path


def demo_videos(out_dir: Path, folder: Path, scale: Scale) -> Path:
    """Pre-train on a user's videos; returns the report."""
    import report

    from mmmotionmae.datasets.robust_video_dataset import find_videos

    number = len(find_videos(str(folder)))
    os.environ['VIDEOS'] = str(folder)
    results = Results()
    stage = Stage(out_dir, results)
    # So many steps of 16 clips, however many videos there are.
    epochs = max(1, round(16 * scale.steps / max(number, 16)))
    stage.say(f'Pre-training on {number} videos below {folder}')
    job = train_job(
        'pre-train',
        VIDEOS,
        out_dir / 'pretrain',
        options=[
            f'max_epochs={epochs}',
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
    videos = reconstructions(
        VIDEOS, checkpoint, {}, indices=range(min(number, 4))
    )
    path = out_dir / 'report.html'
    report.write(
        path,
        title='MotionMAE demo: your videos',
        lead=f'Pre-training on the {number} videos below {folder}, with a '
        'network and clips sized for a CPU.',
        table=None,
        curves=report.plot_curves(
            [report.Curve.read('MotionMAE', job.work_dir)]
        ),
        clips=report.film_strips(videos, zoom=1),
        reconstruction_note='These clips are from the videos that the '
        'network was trained on.',
        commands=results.commands,
        versions=versions(),
    )
    stage.say(f'Checkpoint: {checkpoint}')
    stage.say(f'Report: {path}')
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
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
    args = parser.parse_args(argv)
    videos = args.videos and args.videos.resolve()
    name = 'demo_videos' if videos else 'demo'
    out_dir = args.out_dir and args.out_dir.resolve()
    out_dir = out_dir or Path('work_dirs') / (
        f'{name}_quick' if args.quick else name
    )
    scale = QUICK if args.quick else Scale()
    os.chdir(ROOT)
    try:
        set_aside(out_dir)
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
