#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Show what a masked autoencoder reconstructs of videos."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mmmotionmae.cli.arguments import (
    add_picture_arguments,
    int_from,
    load_options_of,
    seed,
)
from mmmotionmae.utils.choices import MASKS, STATISTICS


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Mask videos, reconstruct pixels and motion, and write '
        'pictures of it, named after the videos: rows of frames, and input, '
        'mask, pixels and motion side by side, as films or stills.'
    )
    parser.add_argument(
        'model',
        metavar='MODEL',
        help='a checkpoint of any known format, or a config '
        '(.py, with --weights)',
    )
    add_picture_arguments(parser, ('img', 'video'))
    parser.add_argument(
        '--weights', metavar='CHECKPOINT', help='the checkpoint of a config'
    )
    parser.add_argument(
        '--statistics',
        choices=STATISTICS,
        default='true',
        help='whose mean and contrast the masked tubelets get: their own '
        '(true), which makes pictures look better than the prediction is, '
        'or those of the visible tubelets (default: %(default)s)',
    )
    parser.add_argument(
        '--mask',
        choices=list(MASKS),
        default='tube',
        help='the same places in all slots (tube), other ones in each '
        '(random), or whole slots (frame) (default: %(default)s)',
    )
    parser.add_argument(
        '--mask-ratio',
        type=float,
        default=0.9,
        metavar='SHARE',
        help='of the tokens, between 0 and 1 (default: %(default)s)',
    )
    parser.add_argument(
        '--seed',
        type=seed,
        default=0,
        help='of the masks (default: %(default)s)',
    )
    parser.add_argument(
        '--num-clips',
        type=int_from(1),
        default=1,
        metavar='N',
        help='clips of each video: the middle one, or several, evenly spread '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--errors',
        default='',
        metavar='FILE',
        help='a .json file for the errors of each video',
    )
    parser.add_argument(
        '--batch-size',
        type=int_from(1),
        default=1,
        metavar='N',
        help='videos at a time (default: %(default)s)',
    )
    parser.add_argument(
        '--device', help='where to run (default: a GPU, if there is one)'
    )
    parser.add_argument(
        '--on-error',
        choices=['raise', 'skip'],
        help='what becomes of a video that cannot be read (default: end if '
        'it is the only one and was named itself, else leave it out)',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.inferencer import MotionMAEInferencer
from mmmotionmae.checkpoints import trust_checkpoints
from mmmotionmae.cli.running import run_tool


def reconstruct(args: argparse.Namespace) -> None:
    """Write the pictures and print the errors.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: See :class:`MotionMAEInferencer`.
        CheckpointError: Likewise.
    """
    if args.errors and not args.errors.endswith('.json'):
        raise UsageError(f'--errors must end in .json, not {args.errors!r}.')
    trust_checkpoints(args.trust_checkpoint)
    sizes = dict(num_frames=args.num_frames, img_size=args.img_size)
    options = {k: v for k, v in sizes.items() if v} | load_options_of(args)
    inferencer = MotionMAEInferencer(
        args.model,
        weights=args.weights,
        device=args.device,
        show_progress=sys.stderr.isatty(),
        load_options=options,
    )
    results = inferencer(
        args.inputs,
        batch_size=args.batch_size,
        num_clips=args.num_clips,
        frame_interval=args.frame_interval,
        mask=args.mask,
        mask_ratio=args.mask_ratio,
        seed=args.seed,
        decoder=args.decoder,
        on_error=args.on_error,
        statistics=args.statistics,
        out_dir=args.out_dir,
        out_type=args.out_type,
        fps=args.fps,
        pred_out_file=args.errors,
        keep_arrays=False,
        overwrite=args.overwrite,
    )
    for prediction in results['predictions']:
        for number, errors in enumerate(prediction['errors'], 1):
            clip = f', clip {number}' if args.num_clips > 1 else ''
            words = in_words(errors, inferencer.model.targets)
            print(f'{prediction["name"]}{clip}: {words}')
    print(
        f'{args.out_dir}: {len(results["predictions"])} videos, '
        f'{len(results["skipped"])} left out'
    )


def in_words(errors: dict[str, Any], targets: Mapping[str, Any]) -> str:
    """The errors of a clip, in a line."""
    parts = []
    for name, target in targets.items():
        words = []
        for key, value in errors[name].items():
            if key == 'r2':
                words.append(f'R2 {value:.3f}')
            elif key.startswith('r2_'):
                words.append(f'{key.removeprefix("r2_")} {value:.3f}')
            elif key == 'psnr':
                words.append(f'{value:.1f} dB')
        parts.append(f'{target.label or name} {", ".join(words)}')
    return '; '.join(parts)


def main() -> int:
    """Run, and turn a user's mistakes into one line."""

    def run() -> None:
        try:
            reconstruct(parse_args())
        except OSError as error:  # such as a folder without permission
            raise UsageError(str(error)) from error

    return run_tool(run)


if __name__ == '__main__':
    sys.exit(main())
