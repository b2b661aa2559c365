# Copyright (c) MotionMAE contributors. All rights reserved.
"""Arguments that several tools take, and how a tool ends."""

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process

from ..apis.runner import MAX_SEED, load_config
from ..checkpoints import trust_checkpoints
from ..compat import end_process, leave_process_group
from ..datasets.annotation import Columns, Layout
from ..datasets.annotation.layout import UNITS
from ..utils.errors import (
    MMMotionMAEError,
    Preemption,
    SharedError,
    UsageError,
    VideoError,
)
from .mistakes import explain_mistake

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


class ConfigOptions(DictAction):
    """``--cfg-options``: a line, not a traceback, where one is malformed."""

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
        try:
            super().__call__(parser, namespace, values, option_string)
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


def columns_of(args: argparse.Namespace) -> Columns | None:
    """Columns of a list, as ``--columns`` has them."""
    if args.columns and all('=' in text for text in args.columns):
        return dict(text.split('=', 1) for text in args.columns)
    return args.columns


def layout_of(args: argparse.Namespace) -> Layout:
    """Layout of a list, by :func:`add_list_arguments` and ``--frames``.

    Raises:
        UsageError: If that makes no sense.
    """
    return Layout.of(
        args.frames, columns=columns_of(args), clip_unit=args.clip_unit
    )


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


def config_of(args: argparse.Namespace) -> Config:
    """Read the config and apply the flags that both tools take.

    Raises:
        UsageError: See :func:`load_config`.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    trust_checkpoints(args.trust_checkpoint)
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    return cfg


def run_tool(tool: Callable[[], object]) -> int:
    """Run a tool and turn a user's mistakes into one line.

    Returns:
        The exit code: 0, 2 after a mistake, or 85 if the run was asked to end
        and can go on.
    """
    code = 0
    told = logging.raiseExceptions
    try:
        # A full disk is told once, not with a traceback for each line of a
        # log that cannot be written.
        logging.raiseExceptions = False
        tool()
    except Preemption as end:
        code = int(str(end.code))
    except VideoError:  # a defect: the message does not name the video
        raise
    except (FileNotFoundError, MMMotionMAEError) as error:
        shared = isinstance(error, SharedError)
        if not shared or is_main_process():
            print(f'error: {error}', file=sys.stderr)
        # The launcher ends all others once one has ended: not too soon.
        if shared and leave_process_group():
            end_process(2)
        return 2
    except Exception as error:
        line = explain_mistake(error)
        if line is None:
            raise
        print(f'error: {line}', file=sys.stderr)
        return 2
    finally:
        logging.raiseExceptions = told
    if leave_process_group():
        end_process(code)
    return code


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


def run_job_tool(tool: Callable[[], object]) -> int:
    """Run a tool that can be interrupted and called again.

    Returns:
        The exit code: 0; 2 after a user's mistake, or where a file cannot be
        read or written; 130 after Ctrl-C.
    """

    def run() -> None:
        try:
            tool()
        except OSError as error:  # such as a folder without write permission
            raise UsageError(str(error)) from error

    try:
        return run_tool(run)
    except KeyboardInterrupt:
        print(
            '\ninterrupted; the same command goes on from here',
            file=sys.stderr,
        )
        return 130
