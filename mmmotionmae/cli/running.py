# Copyright (c) MotionMAE contributors. All rights reserved.
"""Runs of tools: from arguments to settings, and how a tool ends."""

import argparse
import logging
import os
import sys
from collections.abc import Callable

from mmengine.config import Config
from mmengine.dist import is_main_process

from ..apis.runner import load_config
from ..checkpoints import trust_checkpoints
from ..compat import end_process, leave_process_group
from ..datasets.annotation import Layout
from ..utils.errors import (
    MMMotionMAEError,
    Preemption,
    SharedError,
    UsageError,
    VideoError,
)
from .arguments import columns_of
from .mistakes import explain_mistake


def layout_of(args: argparse.Namespace) -> Layout:
    """Layout of a list, by :func:`add_list_arguments` and ``--frames``.

    Raises:
        UsageError: If that makes no sense.
    """
    return Layout.of(
        args.frames, columns=columns_of(args), clip_unit=args.clip_unit
    )


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
