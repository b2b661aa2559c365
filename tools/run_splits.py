#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""All official splits of a data set, and their mean.

For each split: pre-train on its training list (if asked to), fine-tune, test.
The configs find the split in the environment variable ``SPLIT``, as those of
UCF101 and HMDB51 do::

    split = '{{$SPLIT:1}}'
    ann_file = f'data/ucf101/train_split{split}.txt'

The same command goes on after an interruption. The predictions of each split
are kept in ``predictions.pkl``.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmmotionmae.cli.arguments import add_amp_argument, seed


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Fine-tune and test on all official splits of a data set '
        'and report the mean. The same command goes on after an '
        'interruption.'
    )
    parser.add_argument('config', help='config of fine-tuning and test')
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        '--pretrain',
        metavar='CONFIG',
        help='first pre-train with this config, on the training list of '
        'each split',
    )
    start.add_argument(
        '--checkpoint', help='fine-tune this pre-trained encoder on all splits'
    )
    parser.add_argument(
        '--splits',
        type=int,
        nargs='+',
        default=[1, 2, 3],
        help='values of SPLIT (default: 1 2 3)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='where everything goes (default: work_dirs/<config name>_splits)',
    )
    parser.add_argument(
        '--gpus', type=int, default=1, help='processes (default: %(default)s)'
    )
    parser.add_argument('--seed', type=seed, help='random seed of trainings')
    add_amp_argument(parser)
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale learning rates with the effective batch size',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config of fine-tuning and test',
    )
    parser.add_argument(
        '--pretrain-cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config of pre-training',
    )
    args = parser.parse_args(argv)
    if args.work_dir is None:
        name = f'{Path(args.config).stem}_splits'
        args.work_dir = Path('work_dirs') / name
    return args


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmmotionmae.apis import UsageError
from mmmotionmae.cli.running import run_tool
from mmmotionmae.cli.splits import (
    SplitResult,
    call,
    check_splits_differ,
    hash_checkpoint,
    last_checkpoint,
    last_metrics,
    read_config,
    reason_of_failure,
    write_report,
)
from mmmotionmae.utils.run_folder import holds_run
from mmmotionmae.utils.time_left import time_left

TOOLS = Path(__file__).resolve().parent


CHECKPOINT_OPTION = 'model.backbone.init_cfg.checkpoint'


def run_splits(args: argparse.Namespace) -> None:
    """Run what is missing of all splits, then print and write the table.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: If the configs do not fit, a result of other settings is
            in the way, or a step fails.
    """
    if len(set(args.splits)) < len(args.splits) or args.gpus < 1:
        raise UsageError('--splits must differ, and --gpus be 1 or more.')
    if args.pretrain_cfg_options and not args.pretrain:
        raise UsageError('--pretrain-cfg-options needs --pretrain.')
    results: dict[int, SplitResult] = {}
    for split in args.splits:
        os.environ['SPLIT'] = str(split)
        results[split] = SplitResult.open(
            args.work_dir / f'split{split}', split, settings_of(args)
        )
    check_splits_differ([*results.values()])
    for number, (split, result) in enumerate(results.items(), 1):
        os.environ['SPLIT'] = str(split)
        was_done = bool(result.metrics)
        run_split(args, result)
        # By what the steps took, also those of an earlier call.
        spent = sum(sum(r.seconds.values()) for r in results.values())
        left = time_left(number, len(results), spent)
        if left and not was_done:
            print(f'split {split}: done; {left}', flush=True)
    print(write_report(args.work_dir, results))


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What makes the result of the split that the environment names.

    Raises:
        UsageError: If a config cannot be read, or takes no checkpoint, or a
            checkpoint is missing.
    """
    finetune = read_config(args.config, args.cfg_options)
    backbone = finetune.get('model', {}).get('backbone', {})
    init_cfg = backbone.get('init_cfg') or {}
    if (args.pretrain or args.checkpoint) and 'checkpoint' not in init_cfg:
        raise UsageError(
            f'{args.config} trains from scratch: its backbone has no '
            'init_cfg that takes a checkpoint. Leave --pretrain and '
            '--checkpoint out, or take a config that fine-tunes.'
        )
    settings: dict[str, Any] = dict(
        finetune=finetune,
        seed=args.seed,
        gpus=args.gpus,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
    )
    if args.pretrain:
        settings['pretrain'] = read_config(
            args.pretrain, args.pretrain_cfg_options
        )
    else:
        settings['first_weights'] = hash_checkpoint(
            args.checkpoint or init_cfg.get('checkpoint')
        )
    return settings


def run_split(args: argparse.Namespace, result: SplitResult) -> None:
    """Run what is missing of the split that the environment names."""
    if result.metrics:
        return
    result.save()
    first = args.checkpoint
    if args.pretrain:
        run_step(
            args, result, 'pretrain', args.pretrain, args.pretrain_cfg_options
        )
        first = str(last_checkpoint(result.folder / 'pretrain'))
    options = list(args.cfg_options)
    if first:
        if any(char in first for char in ',()[]'):
            raise UsageError(
                f'{first!r}: --cfg-options cannot take such a path; choose '
                'one without commas and brackets.'
            )
        options.append(f'{CHECKPOINT_OPTION}={first}')
    run_step(args, result, 'finetune', args.config, options)
    last = str(last_checkpoint(result.folder / 'finetune'))
    run_step(args, result, 'test', args.config, args.cfg_options, last)


def run_step(
    args: argparse.Namespace,
    result: SplitResult,
    step: str,
    config: str,
    options: Sequence[str],
    checkpoint: str | None = None,
) -> None:
    """Run a step in a process of its own, unless it is done.

    Args:
        args: What :func:`parse_args` returns.
        result: Of the split; the step is entered.
        step: ``'pretrain'``, ``'finetune'`` or ``'test'``.
        config: Its config.
        options: Values of ``--cfg-options``.
        checkpoint: What is tested.

    Raises:
        UsageError: If it fails.
    """
    if step in result.seconds:
        return
    work_dir = result.folder / step
    tool = 'test' if step == 'test' else 'train'
    command = [sys.executable]
    if args.gpus > 1:
        command += ['-m', 'torch.distributed.run', '--standalone']
        command += [f'--nproc_per_node={args.gpus}']
    command += [str(TOOLS / f'{tool}.py'), config]
    command += [checkpoint] if checkpoint else []
    command += ['--work-dir', str(work_dir)]
    command += ['--launcher', 'pytorch'] if args.gpus > 1 else []
    if tool == 'test':  # what an interrupted test has done is kept
        dump = str(result.folder / 'predictions.pkl')
        command += ['--dump', dump, '--overwrite']
    else:
        command += [] if args.seed is None else ['--seed', str(args.seed)]
        command += ['--amp', args.amp] if args.amp else []
        command += ['--auto-scale-lr'] if args.auto_scale_lr else []
        if holds_run(work_dir):
            command.append('--resume')
    command += ['--cfg-options', *options] if options else []

    log = result.folder / f'{step}.log'
    print(f'split {result.split}: {step}, see {log}', flush=True)
    start = time.perf_counter()
    code = call(command, log)
    if code:
        raise UsageError(
            f'Split {result.split}, {step}: tools/{tool}.py failed with exit '
            f'code {code}: {reason_of_failure(log)}\nAll that it printed is '
            f'in {log}. Once the cause is mended, the same command goes on.'
        )
    metrics = last_metrics(work_dir) if tool == 'test' else {}
    result.finish(step, time.perf_counter() - start, metrics)


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    # As after Ctrl-C: the running step ends, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run_tool(lambda: run_splits(parse_args()))
    except KeyboardInterrupt:
        print('interrupted; the same command goes on', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
