#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Show where a video encoder looks."""

import argparse
import sys
from collections.abc import Sequence

from mmmotionmae.cli.arguments import (
    add_picture_arguments,
    load_options_of,
)
from mmmotionmae.utils.choices import ATTENTION_KINDS


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Draw the attention of a video encoder over the clip in '
        'the middle of each video.'
    )
    parser.add_argument(
        'model', metavar='MODEL', help='a checkpoint of any known format'
    )
    add_picture_arguments(parser, ('img',))
    parser.add_argument(
        '--kind',
        choices=ATTENTION_KINDS,
        default='rollout',
        help='through all blocks (attention rollout), or of the last block '
        'alone (default: %(default)s)',
    )
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

import numpy as np

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.features.encoder import find_encoder
from mmmotionmae.apis.inferencer.inputs import (
    ClipLoader,
    ClipSettings,
    clip_size_of,
    list_inputs,
)
from mmmotionmae.apis.inferencer.outputs import (
    picture_paths,
    refuse_to_overwrite,
    save_pictures,
)
from mmmotionmae.checkpoints import trust_checkpoints
from mmmotionmae.cli.running import run_tool
from mmmotionmae.models.utils.attention_maps import attention_maps
from mmmotionmae.utils.time_left import progress_bar
from mmmotionmae.visualization import attention_rows, draw_film, draw_sheet


def draw_attention(args: argparse.Namespace) -> None:
    """Write the pictures.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: If the only video cannot be read, or a picture exists.
        CheckpointError: If the checkpoint cannot be read.
    """
    trust_checkpoints(args.trust_checkpoint)
    sizes = dict(num_frames=args.num_frames, img_size=args.img_size)
    options = {k: v for k, v in sizes.items() if v} | load_options_of(args)
    encoder = find_encoder(args.model, options)
    vit = encoder.vit.to(args.device).eval()
    preprocessor = encoder.make_preprocessor().to(args.device)
    settings = ClipSettings(
        frame_interval=args.frame_interval, mask=None, decoder=args.decoder
    )
    load = ClipLoader(clip_size_of(vit), settings)
    videos = list_inputs(args.inputs)
    paths = [
        picture_paths(
            args.out_dir, f'{video.name}_attention', 1, 'true', args.out_type
        )
        for video in videos
    ]
    if not args.overwrite:
        refuse_to_overwrite(
            [path for (files,) in paths for path in files.values()]
        )
    show, left_out = sys.stderr.isatty(), 0
    with progress_bar(len(videos), 'video', show=show) as bar:
        for video, files in zip(videos, paths, strict=True):
            try:
                clip = load(video)['inputs']
            except UsageError as error:
                if len(videos) == 1 and not video.listed:
                    raise
                print(f'Left out: {error}', file=sys.stderr)
                left_out += 1
                continue
            batch = dict(inputs=[clip[0]], data_samples=None)
            (weights,) = attention_maps(
                vit, preprocessor(batch)['inputs'], args.kind
            ).cpu()
            rows = attention_rows(clip[0].float() / 255, weights)
            pictures = dict(
                sheet=np.stack([draw_sheet(rows)]),
                film=np.stack([draw_film(rows)]),
            )
            save_pictures(pictures, files, args.fps)
            bar.update()
    number = len(videos) - left_out
    print(f'{args.out_dir}: {number} videos, {left_out} left out')


def main() -> int:
    """Run, and turn a user's mistakes into one line."""

    def run() -> None:
        try:
            draw_attention(parse_args())
        except OSError as error:  # such as a folder without permission
            raise UsageError(str(error)) from error

    return run_tool(run)


if __name__ == '__main__':
    sys.exit(main())
