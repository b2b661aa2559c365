#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Encode videos with a frozen encoder, and write the features to a file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmmotionmae.cli.arguments import (
    add_amp_argument,
    add_list_arguments,
    add_load_options,
    columns_of,
    int_from,
    load_options_of,
)
from mmmotionmae.utils.choices import FEATURE_TYPES, POOLINGS, VIEWS


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Encode videos with a frozen encoder. No config is '
        'needed. A run that was interrupted goes on with the same command. '
        'There is no class token in these encoders: the feature of a video '
        'is the mean of all tokens, unless --pooling says otherwise.'
    )
    parser.add_argument(
        'model',
        help='checkpoint of any known format, file or folder; with --config '
        'one of that model, or "none": as the config sets it up',
    )
    parser.add_argument(
        'inputs',
        type=Path,
        help='list of videos, with labels or without; folder; or video',
    )
    parser.add_argument('out', type=Path, help='.npy (and .json) or .h5')
    parser.add_argument(
        '--config', help='config whose model it is, for networks of your own'
    )
    _add_data_arguments(parser)
    parser.add_argument(
        '--block',
        nargs='+',
        type=int,
        default=[-1],
        metavar='N',
        help='whose output, from 0, or from the last, -1; several make an '
        'axis of their own (default: -1)',
    )
    parser.add_argument(
        '--pooling',
        choices=POOLINGS,
        default='mean',
        help='what is averaged: all tokens; space: those of each slot; time: '
        'the slots; none: nothing (default: %(default)s)',
    )
    parser.add_argument(
        '--no-final-norm',
        dest='final_norm',
        action='store_false',
        help="without the encoder's last norm",
    )
    parser.add_argument(
        '--dtype', choices=FEATURE_TYPES, default='float32', help='of the file'
    )
    add_amp_argument(parser)
    parser.add_argument(
        '--batch-size',
        type=int_from(1),
        default=8,
        metavar='N',
        help='clips at a time (default: %(default)s)',
    )
    parser.add_argument(
        '--num-workers',
        type=int_from(0),
        metavar='N',
        help='processes that load videos (default: one for each CPU, 8 at '
        'most)',
    )
    parser.add_argument('--device', help='such as cuda:1 or cpu')
    add_load_options(parser)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also load checkpoint files that can run code (with --config)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace other features'
    )
    return parser.parse_args(argv)


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data-prefix',
        default='',
        metavar='DIR',
        help='folder to which the paths of a list are relative',
    )
    parser.add_argument(
        '--frames',
        action='store_true',
        help='the videos are folders of raw frames',
    )
    parser.add_argument(
        '--filename-tmpl',
        default='img_{:05}.jpg',
        metavar='NAME',
        help='how frames of a list are named (default: %(default)s)',
    )
    add_list_arguments(parser)
    parser.add_argument(
        '--clip-len',
        type=int_from(1),
        metavar='N',
        help="frames of a clip (default: the encoder's)",
    )
    sampling = parser.add_mutually_exclusive_group()
    sampling.add_argument(
        '--frame-interval',
        type=int_from(1),
        default=4,
        metavar='N',
        help='every how many frames of the video (default: %(default)s)',
    )
    sampling.add_argument(
        '--uniform',
        action='store_true',
        help='clips span the whole video, as for Something-Something',
    )
    parser.add_argument(
        '--num-clips',
        type=int_from(1),
        default=1,
        metavar='N',
        help='clips of each video (default: %(default)s)',
    )
    parser.add_argument(
        '--num-crops',
        type=int,
        choices=[1, 3],
        default=1,
        help='crops of each clip (default: %(default)s)',
    )
    parser.add_argument(
        '--views',
        choices=VIEWS,
        default='mean',
        help='what becomes of the features of clips and crops: averaged, or '
        'all kept (default: %(default)s)',
    )
    parser.add_argument(
        '--img-size',
        type=int_from(1),
        metavar='PIXELS',
        help="height and width of clips (default: the encoder's)",
    )


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

import numpy as np
import torch
from mmaction.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mmmotionmae.apis.features import Features, extract_features
from mmmotionmae.apis.pretrained import load_model
from mmmotionmae.apis.runner import load_config
from mmmotionmae.checkpoints import (
    refuse_missing_checkpoint,
    trust_checkpoints,
)
from mmmotionmae.cli.running import run_job_tool
from mmmotionmae.utils.errors import UsageError


def extract(args: argparse.Namespace) -> Features:
    """Write the features and print what they are.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: See :func:`extract_features`.
        AnnotationError: Likewise.
        CheckpointError: Likewise.
        FileNotFoundError: Likewise.
    """
    features = extract_features(
        _model_of(args),
        args.inputs,
        args.out,
        block=args.block if len(args.block) > 1 else args.block[0],
        pooling=args.pooling,
        final_norm=args.final_norm,
        num_frames=args.clip_len,
        frame_interval=None if args.uniform else args.frame_interval,
        num_clips=args.num_clips,
        num_crops=args.num_crops,
        views=args.views,
        img_size=args.img_size,
        data_prefix=args.data_prefix,
        frames=args.frames,
        filename_tmpl=args.filename_tmpl,
        columns=columns_of(args),
        clip_unit=args.clip_unit,
        dtype=args.dtype,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        device=args.device,
        amp=args.amp,
        overwrite=args.overwrite,
        load_options=load_options_of(args),
    )
    values = features.values
    size = np.prod(values.shape) * values.dtype.itemsize / 1e6
    print(
        f'{args.out}: {values.dtype} {tuple(values.shape)}, {size:.3g} MB, '
        f'{"no" if features.labels is None else "with"} labels, '
        f'{len(features.bad_videos)} bad videos'
    )
    return features


def _model_of(args: argparse.Namespace) -> Any:
    """The model of the config, or the path of the checkpoint."""
    if args.config is None:
        if args.trust_checkpoint:
            raise UsageError(
                '--trust-checkpoint needs --config; without one a network is '
                'built from the tensors alone.'
            )
        if args.model == 'none':
            raise UsageError('"none" needs --config.')
        refuse_missing_checkpoint(args.model)
        return args.model
    trust_checkpoints(args.trust_checkpoint)
    if args.model != 'none':
        return load_model(args.config, args.model)[0]
    cfg = load_config(args.config)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmaction'):
        model = MODELS.build(cfg.model)
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # MMEngine tells of every parameter
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)
    return model


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_job_tool(lambda: extract(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
