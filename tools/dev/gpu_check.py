#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Check everything that a GPU is for, in minutes, on one card.

Imports; for each family of configs a step at full size in bfloat16, compiled
and not, its time, its memory beside the estimate of describe.py and its waits
of the host; the same numbers as on the CPU; our model beside others'; loader
and trainer; segmentation; fine-tuning. Every part is a process of its own with
a limit of time. What fails is told at the end, with the reason, and the others
go on.

`--device mock --tiny` tries the script itself, without any GPU.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Nothing of the package here, nor PyTorch: that may be what fails.
ROOT = Path(__file__).resolve().parents[2]
FAMILIES = (
    'both-targets',
    'independent',
    'flow',
    'hog',
    'videomae',
    'fine-tuning',
    'linear-probe',
    'attentive-probe',
)
# Seconds that each may take, in the order in which they run.
PARTS = {
    'imports': 60,
    'parity': 90,
    **{f'step-{family}': 90 for family in FAMILIES},
    'segmentation': 60,
    'fine-tuning': 90,
    'loader-and-trainer': 90,
    'model': 120,
}
NOT_HERE = 3  # exit code of a part that cannot run here


@dataclass
class Result:
    """What came of a part.

    Attributes:
        part: Its name.
        state: ``'ok'``, ``'failed'``, ``'not here'``, ``'too slow'`` or
            ``'no time left'``.
        seconds: How long it took.
        reason: Why it is not ``'ok'``.
        figures: What it measured.
    """

    part: str
    state: str
    seconds: float = 0.0
    reason: str = ''
    figures: dict[str, Any] = field(default_factory=dict)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--device', default='cuda', choices=['cuda', 'cpu', 'mock'])
    add('--tiny', action='store_true', help='tiny networks and clips')
    add(
        '--parts',
        nargs='+',
        choices=list(PARTS),
        default=list(PARTS),
        metavar='PART',
        help=f'some of: {", ".join(PARTS)} (default: all)',
    )
    add(
        '--minutes',
        type=float,
        default=8,
        help='after that, no part starts (default: 8)',
    )
    add(
        '--patience',
        type=float,
        default=1,
        metavar='X',
        help='times the seconds that each part may take, for slow machines',
    )
    add('--out', metavar='FILE.md', default='gpu_check.md')
    add('--json', metavar='FILE.json', default='gpu_check.json')
    add('--overwrite', action='store_true', help='replace these files')
    add('--part', choices=list(PARTS), help=argparse.SUPPRESS)
    add('--result', help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def command_of(part: str, args: argparse.Namespace, file: Path) -> list[str]:
    """The command line of the process that runs a part."""
    return [
        *(sys.executable, str(Path(__file__).resolve())),
        *('--part', part, '--device', args.device, '--result', str(file)),
        *(['--tiny'] if args.tiny else []),
    ]


def run_part(
    part: str,
    command: Sequence[str],
    file: Path,
    limit: float,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Run a part in a process of its own, whatever becomes of it.

    Args:
        part: Its name.
        command: Of the process, which writes its figures as JSON.
        file: Where to.
        limit: Seconds, after which it is ended with all that it started.
        clock: Tells the time.
    """
    start = clock()
    with tempfile.TemporaryFile('w+', errors='replace') as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
        seconds = clock() - start
        errors.seek(0)
        said = [line.strip() for line in errors if line.strip()]
    last = said[-1] if said else ''
    if code is None:
        return Result(part, 'too slow', seconds, f'ended after {limit:.0f} s')
    if code == NOT_HERE:
        return Result(part, 'not here', seconds, last)
    if code:
        ended = f'signal {-code}' if code < 0 else f'exit code {code}'
        return Result(part, 'failed', seconds, f'{last} ({ended})')
    try:
        figures = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        return Result(part, 'failed', seconds, f'no figures: {error}')
    return Result(part, 'ok', seconds, figures=figures)


def _end_group(process: subprocess.Popen) -> None:
    """End a process and those that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def table(results: Sequence[Result]) -> str:
    """Markdown: a row for each part."""
    lines = ['| part | | seconds | what was found |', '|---|---|---:|---|']
    for result in results:
        told = result.reason or ', '.join(
            f'{name}: {_short(value)}'
            for name, value in result.figures.items()
            if not isinstance(value, (dict, list))
        )
        told = ' '.join(told.split()).replace('|', r'\|')
        lines.append(
            f'| {result.part} | {result.state} | {result.seconds:.0f} '
            f'| {told} |'
        )
    return '\n'.join(lines)


def _short(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def write(path: str, text: str) -> None:
    """Write a file as a whole."""
    part = Path(f'{path}.part')
    part.write_text(text, encoding='utf-8')
    part.replace(path)


def check(args: argparse.Namespace) -> list[Result]:
    """Run all parts that there is time for; write what is known after each."""
    results: list[Result] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for part in args.parts:
            left = 60 * args.minutes - (time.monotonic() - start)
            if left <= 0:
                results.append(Result(part, 'no time left'))
            else:
                print(f'{part} ...', file=sys.stderr, flush=True)
                file = Path(folder) / f'{part}.json'
                command = command_of(part, args, file)
                limit = min(args.patience * PARTS[part], left)
                results.append(run_part(part, command, file, limit))
            found = dict(
                command=' '.join(sys.argv),
                device=args.device,
                tiny=args.tiny,
                parts=[asdict(result) for result in results],
            )
            write(args.json, json.dumps(found, indent=1))
            write(args.out, f'{table(results)}\n')
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Check, or run one part.

    Returns:
        0 if nothing failed; 1 if something did; 2 for a mistake.
    """
    args = parse_args(argv)
    if args.part:
        sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
        import gpu_parts

        try:
            figures = gpu_parts.run(args.part, args.device, args.tiny)
        except gpu_parts.NotHereError as error:
            print(error, file=sys.stderr)
            return NOT_HERE
        write(args.result, json.dumps(figures))
        return 0
    for path in (args.out, args.json):
        if Path(path).exists() and not args.overwrite:
            print(
                f'error: {path} exists already; choose another name, or '
                '--overwrite.',
                file=sys.stderr,
            )
            return 2
    results = check(args)
    print(table(results))
    print(f'Written: {args.out}, {args.json}')
    return int(any(r.state not in ('ok', 'not here') for r in results))


if __name__ == '__main__':
    sys.exit(main())
