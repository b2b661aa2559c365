#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Say what a checkpoint is, and convert it to another format."""

import argparse
import sys
from collections.abc import Sequence

from mmmotionmae.cli.arguments import add_load_options, load_options_of
from mmmotionmae.utils.choices import FORMAT_NAMES


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Say what a checkpoint is, and convert it to another '
        'format. Its own format is recognised.'
    )
    parser.add_argument(
        'source',
        help='file (.pth, .safetensors, ...), folder of Hugging Face, work '
        'dir of a training, or mmmotionmae://NAME, which the package ships',
    )
    parser.add_argument(
        'target',
        nargs='?',
        help='.pth or .safetensors file, or, for huggingface, a folder; '
        'without it, nothing is written',
    )
    parser.add_argument(
        '--to',
        choices=FORMAT_NAMES,
        default='mmaction',
        help='format to write (default: mmaction, for this package and '
        "MMAction2's own classes)",
    )
    parser.add_argument(
        '--encoder-only',
        action='store_true',
        help='leave decoder and heads behind',
    )
    fit = parser.add_argument_group(
        'other clips', 'positions are interpolated in space and time'
    )
    fit.add_argument('--num-frames', type=int, help='frames of a clip')
    fit.add_argument('--img-size', type=int, help='size of a frame, pixels')
    fit.add_argument(
        '--tubelet-size',
        type=int,
        help='frames of a tubelet; a decoder is then left behind',
    )
    add_load_options(parser)
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='write over an existing target',
    )
    parser.add_argument(
        '--dtype',
        choices=['float32', 'float16', 'bfloat16'],
        help='of the weights in the target (default: as they are)',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also load a file that can run code',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

import torch

from mmmotionmae.checkpoints import (
    FORMATS,
    Checkpoint,
    describe_checkpoint,
    read_checkpoint,
    resize_checkpoint,
    trust_checkpoints,
    write_checkpoint,
)
from mmmotionmae.cli.running import run_tool


def convert(args: argparse.Namespace) -> Checkpoint:
    """Convert as the command line says.

    Args:
        args: What :func:`parse_args` returns.

    Returns:
        What was, or would be, written.
    """
    trust_checkpoints(args.trust_checkpoint)
    checkpoint = read_checkpoint(
        args.source,
        encoder_only=args.encoder_only,
        **load_options_of(args),
    )
    print(describe_checkpoint(checkpoint))
    resized = resize_checkpoint(
        checkpoint, args.num_frames, args.img_size, args.tubelet_size
    )
    if resized is not checkpoint:
        print(f'\nfitted:\n{describe_checkpoint(resized)}')
    if args.target is not None:
        write_checkpoint(
            resized,
            args.target,
            args.to,
            args.overwrite,
            getattr(torch, args.dtype) if args.dtype else None,
        )
        print(f'\nWritten as {FORMATS[args.to].title}: {args.target}')
    return resized


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: convert(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
