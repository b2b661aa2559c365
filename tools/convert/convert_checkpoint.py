#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Say what a checkpoint is, and convert it to another format."""

import argparse
import sys
from collections.abc import Sequence

from mmmotionmae.apis.command_line import run_tool
from mmmotionmae.checkpoints import (
    FORMATS,
    Checkpoint,
    describe_checkpoint,
    read_checkpoint,
    resize_checkpoint,
    write_checkpoint,
)
from mmmotionmae.compat import trust_checkpoints


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Say what a checkpoint is, and convert it to another '
        'format. Its own format is recognised.'
    )
    parser.add_argument(
        'source',
        help='file (.pth, .safetensors, ...), folder of Hugging Face, or '
        'work dir of a training',
    )
    parser.add_argument(
        'target',
        nargs='?',
        help='.pth or .safetensors file, or, for huggingface, a folder; '
        'without it, nothing is written',
    )
    parser.add_argument(
        '--to',
        choices=[*FORMATS],
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
    hints = parser.add_argument_group('what the source may not tell')
    hints.add_argument('--num-heads', type=int, help='of the encoder')
    hints.add_argument('--decoder-num-heads', type=int, help='of the decoder')
    hints.add_argument(
        '--trained-num-frames',
        type=int,
        help='frames that it was trained with (default: 16)',
    )
    hints.add_argument(
        '--trained-img-size',
        type=int,
        help='size of these, pixels (default: 224)',
    )
    parser.add_argument(
        '--drop-cls-token',
        action='store_true',
        help='MAE-ST: leave the class token behind, which changes what the '
        'encoder computes',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='write over an existing target',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also load a file that can run code',
    )
    return parser.parse_args(argv)


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
        num_heads=args.num_heads,
        decoder_num_heads=args.decoder_num_heads,
        num_frames=args.trained_num_frames,
        img_size=args.trained_img_size,
        encoder_only=args.encoder_only,
        drop_cls_token=args.drop_cls_token,
    )
    print(describe_checkpoint(checkpoint))
    resized = resize_checkpoint(
        checkpoint, args.num_frames, args.img_size, args.tubelet_size
    )
    if resized is not checkpoint:
        print(f'\nfitted:\n{describe_checkpoint(resized)}')
    if args.target is not None:
        write_checkpoint(resized, args.target, args.to, args.overwrite)
        print(f'\nWritten as {FORMATS[args.to].title}: {args.target}')
    return resized


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: convert(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
