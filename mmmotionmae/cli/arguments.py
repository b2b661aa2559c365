# Copyright (c) MotionMAE contributors. All rights reserved.
"""Arguments that several tools take.

Nothing is imported here that takes time: a tool answers ``--help`` at once.
"""

import argparse
import math
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..utils.choices import DECODERS, MAX_SEED, OUT_TYPES, UNITS
from ..utils.errors import UsageError

if TYPE_CHECKING:
    from ..datasets.annotation import Columns

# Arguments of `read_checkpoint`, and what they are.
LOAD_OPTIONS = dict(
    num_heads='attention heads of the encoder',
    decoder_num_heads='those of the decoder',
    trained_num_frames='frames of the clips that it was trained with '
    '(default: 16)',
    trained_img_size='height and width of these, in pixels (default: 224)',
    drop_cls_token='MAE-ST: leave the class token behind, which changes what '
    'the encoder computes',
)


def int_from(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Make a ``type`` for argparse: integers in a range."""

    def parse(text: str) -> int:
        number = int(text)
        if number < minimum or (maximum is not None and number > maximum):
            end = 'on' if maximum is None else f'to {maximum}'
            raise argparse.ArgumentTypeError(f'must be from {minimum} {end}')
        return number

    parse.__name__ = 'int'  # for argparse's message
    return parse


seed = int_from(0, MAX_SEED)
"""A ``type`` for argparse: a seed of NumPy."""


class ConfigOptions(argparse.Action):
    """``--cfg-options``: MMEngine's, imported where there are some.

    A line, not a traceback, where one is malformed.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Read ``key=value`` pairs."""
        for text in values:
            if '=' not in text[1:]:
                raise argparse.ArgumentError(
                    self, f'{text!r} is not of the form key=value'
                )
        action = import_module('mmengine.config').DictAction
        read = action(self.option_strings, self.dest, nargs=self.nargs)
        try:
            read(parser, namespace, values, option_string)
        except (AssertionError, ValueError) as error:
            raise argparse.ArgumentError(
                self, f'{" ".join(values)!r} cannot be read: {error}'
            ) from error


def positive(text: str) -> float:
    """A ``type`` for argparse: a finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text} is not above 0')
    return value


def refuse_old_files(files: Sequence[str | None], overwrite: bool) -> None:
    """Check, before hours of work, that files can be written.

    Raises:
        UsageError: If one exists and may not be replaced.
    """
    for file in files:
        if file and os.path.exists(file) and not overwrite:
            raise UsageError(
                f'{file!r} exists; add --overwrite to replace it.'
            )


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that tell what is on the lines of a list."""
    parser.add_argument(
        '--columns',
        nargs='+',
        metavar='NAME',
        help='what follows the path on a line, such as "start end label" or '
        '"start_index total_frames"; or NAME=COLUMN for those that a list '
        'with names calls otherwise (default: a label, if anything; docs/'
        'user_guides/lists.md)',
    )
    parser.add_argument(
        '--clip-unit',
        choices=UNITS,
        help='of start and end (default: seconds if they have a decimal '
        'point)',
    )


def columns_of(args: argparse.Namespace) -> 'Columns | None':
    """Columns of a list, as ``--columns`` has them."""
    if args.columns and all('=' in text for text in args.columns):
        return dict(text.split('=', 1) for text in args.columns)
    return args.columns


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that both tools take."""
    parser.add_argument(
        '--work-dir',
        help='where everything goes '
        '(default: that of the config, else work_dirs/<config name>)',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also load checkpoint files that can run code',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='override settings of the config: key=value, '
        'key="[a,b]" or key=a,b; these come before all other flags',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what starts the processes',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_amp_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--amp``."""
    parser.add_argument(
        '--amp',
        nargs='?',
        const='bf16',
        choices=['bf16', 'fp16'],
        help='mixed precision: bf16 (without a value), or fp16 on a GPU',
    )


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags for what a checkpoint may not tell itself."""
    group = parser.add_argument_group('what a checkpoint may not tell')
    for name, text in LOAD_OPTIONS.items():
        flag = f'--{name.replace("_", "-")}'
        if name == 'drop_cls_token':
            group.add_argument(flag, action='store_true', help=text)
        else:
            group.add_argument(flag, type=int_from(1), metavar='N', help=text)


def load_options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Those that the user has given: arguments of ``read_checkpoint``."""
    given = {name: getattr(args, name) for name in LOAD_OPTIONS}
    return {name: value for name, value in given.items() if value}


def add_picture_arguments(
    parser: argparse.ArgumentParser, out_types: Sequence[str]
) -> None:
    """Add what tools that draw videos share: inputs, clips, pictures.

    Args:
        parser: Of the tool.
        out_types: Kinds of pictures by default.
    """
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='VIDEO',
        help='videos, folders of videos, or folders of frames',
    )
    parser.add_argument(
        '--out-dir', required=True, help='where the pictures go'
    )
    parser.add_argument(
        '--out-type',
        nargs='+',
        choices=list(OUT_TYPES),
        default=list(out_types),
        help='rows of frames (img); all kinds side by side: as film (video '
        'or gif), or one frame of it as PNG (still) or WebP (webp) '
        f'(default: {" ".join(out_types)})',
    )
    for flag, default, what in (
        ('--frame-interval', 4, 'every how many frames of the video'),
        ('--fps', 8, 'frames per second of the films'),
    ):
        parser.add_argument(
            flag,
            type=int_from(1),
            default=default,
            metavar='N',
            help=f'{what} (default: %(default)s)',
        )
    for flag, what in (
        ('--num-frames', 'frames of a clip'),
        ('--img-size', 'height and width of a frame, in pixels'),
    ):
        parser.add_argument(
            flag,
            type=int_from(1),
            metavar='N',
            help=f'{what}; positions are interpolated (default: as trained)',
        )
    add_load_options(parser)
    parser.add_argument(
        '--decoder',
        choices=DECODERS,
        default='pyav',
        help='default: %(default)s',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also load checkpoint files that can run code',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace earlier pictures'
    )


def add_job_arguments(
    parser: argparse.ArgumentParser, time_limit: float
) -> None:
    """Add ``--num-workers`` and ``--time-limit``, with this default."""
    parser.add_argument(
        '--num-workers',
        type=int_from(1),
        default=len(os.sched_getaffinity(0)),
        metavar='N',
        help='videos at a time (default: one for each CPU, %(default)s)',
    )
    parser.add_argument(
        '--time-limit',
        type=_seconds,
        default=time_limit,
        metavar='SECONDS',
        help='a video that takes longer is given up as bad '
        '(default: %(default)g)',
    )


def _seconds(text: str) -> float:
    if not 0 < float(text) < float('inf'):
        raise argparse.ArgumentTypeError('must be above 0')
    return float(text)
