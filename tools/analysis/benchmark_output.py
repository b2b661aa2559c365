# Copyright (c) MotionMAE contributors. All rights reserved.
"""Numbers of a command line, and the files that it asks for."""

import argparse
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_machine import origin_markdown

from mmmotionmae.apis import UsageError
from mmmotionmae.utils.files import complete_file


def count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} is less than 1')
    return value


def natural(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f'{value} is negative')
    return value


def positive(text: str) -> float:
    """A finite number above 0, for argparse."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text} is not above 0')
    return value


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument(
        '--device', help='cpu, cuda or cuda:N (default: cuda if there is one)'
    )


def add_file_arguments(
    parser: argparse.ArgumentParser, *other_names: str
) -> None:
    """Add the flags of the files.

    Args:
        parser: Where.
        *other_names: More names of ``--out``.
    """
    add = parser.add_argument
    add(
        '--out',
        *other_names,
        metavar='FILE.md',
        help='write the tables there, too',
    )
    add('--json', metavar='FILE.json', help='write all figures there')
    add('--overwrite', action='store_true', help='replace files of an old run')


def refuse_old_files(files: Sequence[str | None], overwrite: bool) -> None:
    """Check, before hours of measuring, that files can be written.

    Raises:
        UsageError: If one exists and may not be replaced.
    """
    for file in files:
        if file and os.path.exists(file) and not overwrite:
            raise UsageError(
                f'{file!r} exists; add --overwrite to replace it.'
            )


def write_files(
    args: argparse.Namespace, result: Mapping[str, Any], text: str
) -> None:
    """Print the text, and write what ``--out`` and ``--json`` ask for."""
    print(text)
    if args.out:
        with complete_file(Path(args.out)) as path:
            path.write_text(f'{text}\n', encoding='utf-8')
    if args.json:
        with complete_file(Path(args.json)) as path:
            path.write_text(json.dumps(result, indent=1), encoding='utf-8')


def publish(
    args: argparse.Namespace,
    facts: Mapping[str, Any],
    texts: Sequence[str],
    **figures: Any,
) -> dict[str, Any]:
    """Print and write figures with their origin.

    Args:
        args: The command line.
        facts: What :func:`origin` returns.
        texts: Tables and notes, in Markdown.
        **figures: For the JSON file.

    Returns:
        What is in the JSON file, and ``'markdown'``.
    """
    text = '\n\n'.join([*texts, origin_markdown(facts)])
    result = dict(facts, **figures)
    write_files(args, result, text)
    return dict(result, markdown=text)
