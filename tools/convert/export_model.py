#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Export an encoder or a classifier: ONNX, or a program of PyTorch."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmmotionmae.cli.arguments import add_load_options, load_options_of
from mmmotionmae.utils.choices import (
    DEFAULT_OPSET,
    EXPORT_TYPES,
    OF_CLASSIFIER,
    OPSETS,
    OUTPUTS,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    outputs = '; '.join(f'{name}: {what}' for name, what in OUTPUTS.items())
    parser = argparse.ArgumentParser(
        description='Export a pre-trained encoder or a fine-tuned classifier '
        'for deployment, and run the file beside the model. Input: "clips" '
        '(B, C, T, H, W), RGB. What else one has to know to use the file, '
        'names of the classes included, is in its metadata.'
    )
    parser.add_argument(
        'checkpoint',
        help='file or folder of any format that load_pretrained reads',
    )
    parser.add_argument(
        'out', type=Path, help='ends in .onnx, or .pt2 for torch.export.load'
    )
    parser.add_argument(
        '--config',
        help='build the model of this config instead of guessing it from the '
        'checkpoint, which must fit exactly',
    )
    parser.add_argument(
        '--output',
        choices=OUTPUTS,
        help=f'{outputs} (default: scores of a classifier, else pooled)',
    )
    parser.add_argument(
        '--uint8',
        action='store_true',
        help='clips are uint8 in [0, 255], and the exported model normalises '
        'them (default: float32, normalised by the caller)',
    )
    parser.add_argument(
        '--num-frames',
        type=int,
        metavar='T',
        help='frames of a clip, if not those of the checkpoint',
    )
    parser.add_argument(
        '--img-size',
        type=int,
        metavar='S',
        help='height and width of a frame, if not those of the checkpoint',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        metavar='B',
        help='take this number of clips at a time and no other (default: any)',
    )
    parser.add_argument(
        '--dtype',
        choices=EXPORT_TYPES,
        default='float32',
        help='of the weights; input and output stay as they are '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--opset',
        type=int,
        choices=OPSETS,
        default=DEFAULT_OPSET,
        help="version of ONNX's operators (default: %(default)s)",
    )
    parser.add_argument(
        '--classes',
        type=Path,
        metavar='FILE',
        help='names of the classes, one a line, in the order of the labels '
        '(default: those in the checkpoint, if any)',
    )
    add_load_options(parser)
    parser.add_argument(
        '--no-check',
        action='store_true',
        help='do not run the file beside the model',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace an earlier file'
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn

from mmmotionmae.apis import UsageError, load_config
from mmmotionmae.apis.export import Exported, export_model
from mmmotionmae.apis.export.exporting import check_target
from mmmotionmae.checkpoints import (
    build_model,
    load_strictly,
    read_checkpoint,
    read_raw,
    resize_checkpoint,
)
from mmmotionmae.cli.running import run_tool


def export(args: argparse.Namespace) -> None:
    """Write the file and print what is in it.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: If flags do not fit each other or the model, a package is
            missing, or the file does not compute what the model does.
        CheckpointError: If the checkpoint cannot be read, or does not fit.
    """
    check_target(args.out, args.overwrite)
    sizes = (args.num_frames, args.img_size)
    if args.config and sizes != (None, None):
        raise UsageError(
            '--num-frames and --img-size go without --config: set num_frames '
            'and img_size of its model.backbone.'
        )
    if any(n is not None and n < 1 for n in (*sizes, args.batch_size)):
        raise UsageError(
            '--num-frames, --img-size and --batch-size must be 1 or more.'
        )
    load = load_with_config if args.config else load_without_config
    model, options = load(args)
    if args.classes is not None:
        options['classes'] = read_classes(args.classes)
    exported = export_model(
        model,
        args.out,
        args.output,
        uint8=args.uint8,
        batch_size=args.batch_size,
        dtype=args.dtype,
        opset=args.opset,
        source=args.checkpoint,
        overwrite=args.overwrite,
        check=not args.no_check,
        **options,
    )
    print(describe(exported, args.batch_size))


def load_without_config(
    args: argparse.Namespace,
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model that the checkpoint is of.

    Returns:
        The model, of a pre-trained one the encoder, and what else the
        checkpoint knows.
    """
    checkpoint = resize_checkpoint(
        read_checkpoint(args.checkpoint, **load_options_of(args)),
        num_frames=args.num_frames,
        img_size=args.img_size,
    )
    classifies = checkpoint.kind == 'classifier'
    if args.output in OF_CLASSIFIER and not classifies:
        raise UsageError(
            f'{args.checkpoint} holds no classifier, so there are no '
            f'{args.output}: take --output pooled or tokens.'
        )
    model = build_model(checkpoint, None if classifies else 'encoder')
    return model, dict(
        mean=checkpoint.mean, std=checkpoint.std, classes=checkpoint.classes
    )


def load_with_config(
    args: argparse.Namespace,
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model of the config; the checkpoint must fit exactly.

    Returns:
        The model and what else the checkpoint knows.
    """
    config = load_config(args.config)
    if 'model' not in config:
        raise UsageError(f'The config {args.config!r} has no model.')
    init_default_scope(config.get('default_scope', 'mmaction'))
    raw = read_raw(args.checkpoint)
    model = MODELS.build(config.model)
    load_strictly(model, raw.tensors, raw.source, needs='all')
    meta = (raw.settings.get('meta') or {}).get('dataset_meta') or {}
    return model, dict(classes=meta.get('classes'))


def read_classes(path: Path) -> list[str]:
    """Names of classes, one a line.

    Raises:
        UsageError: If the file is no text in UTF-8.
        FileNotFoundError: If it is not there.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise UsageError(f'{path} is no text in UTF-8.') from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def describe(exported: Exported, batch_size: int | None) -> str:
    """What was written, for people."""
    about = exported.metadata
    names = ('channels', 'num_frames', 'height', 'width')
    shape = [str(batch_size or 'B'), *(str(about[name]) for name in names)]
    normalised = {
        'model': 'in [0, 255]',
        'caller': f'normalised with mean {about["mean"]}, std {about["std"]}',
    }[about['normalized_by']]
    lines = [
        f'{exported.path}: {exported.num_bytes / 1e6:.1f} MB',
        f'  clips: {about["input_type"]} ({", ".join(shape)}), '
        f'RGB, {normalised}',
        f'  {about["output"]}: float32 {OUTPUTS[about["output"]]}',
    ]
    if 'classes' in about:
        lines.append(f'  names of {len(about["classes"])} classes')
    if exported.difference is None:
        lines.append('  not checked')
    else:
        sizes = ' and '.join(map(str, exported.batch_sizes))
        lines.append(
            f'  checked with batches of {sizes}: the largest difference from '
            f'the model is {exported.difference:.1e} of the largest output'
        )
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(run_tool(lambda: export(parse_args())))
