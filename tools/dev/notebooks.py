#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Run the notebooks of docs/notebooks and keep their outputs, small.

Without Jupyter: the cells are plain Python, and what they show is what they
print and what matplotlib draws. In a cell tagged ``parameters`` stand
constants that a caller may replace, as papermill does.
"""

import argparse
import ast
import base64
import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib
from PIL import Image

from mmmotionmae.utils.files import complete_file

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

FOLDER = Path(__file__).parents[2] / 'docs/notebooks'
COLORS = 64  # of a picture


def read(path: Path) -> dict[str, Any]:
    """Read a notebook as the plain data that it is."""
    return json.loads(path.read_text('utf-8'))


def write(path: Path, notebook: dict[str, Any]) -> None:
    """Write a notebook as Jupyter lays it out."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
    with complete_file(path) as temporary:
        temporary.write_text(f'{text}\n', 'utf-8')


def source(cell: dict[str, Any]) -> str:
    """Text of a cell."""
    return ''.join(cell['source'])


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Cells that are run."""
    return [c for c in notebook['cells'] if c['cell_type'] == 'code']


def digest(notebook: dict[str, Any]) -> str:
    """Hash of the code, whatever its layout."""
    # Not of the syntax tree, which another Python prints otherwise.
    texts = [''.join(source(cell).split()) for cell in code_cells(notebook)]
    return hashlib.sha256('\n'.join(texts).encode()).hexdigest()


def run(
    notebook: dict[str, Any], parameters: Mapping[str, Any] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Run the code cells in this process, in the current folder.

    Args:
        notebook: What :func:`read` returns.
        parameters: Constants of the cell tagged ``parameters`` to replace.

    Yields:
        The outputs of each code cell, in Jupyter's format.

    Raises:
        ValueError: If the last line of a cell has a value, which Jupyter
            would show, or there is no such parameter.
    """
    namespace: dict[str, Any] = {'__name__': '__main__'}
    for number, cell in enumerate(code_cells(notebook), 1):
        outputs: list[dict[str, Any]] = []
        name = f'cell {number}'
        body = ast.parse(source(cell), name).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        printed = _Printed(outputs)
        with contextlib.redirect_stdout(printed), _shown(outputs):
            exec(compile(ast.Module(body, []), name, 'exec'), namespace)
            if isinstance(last, ast.Expr):
                code = compile(ast.Expression(last.value), name, 'eval')
                if eval(code, namespace) is not None:
                    raise ValueError(
                        f'{name} ends in a value, which Jupyter shows: print '
                        'it, or give it a name.'
                    )
        if 'parameters' in cell['metadata'].get('tags', ()):
            unknown = set(parameters or ()) - namespace.keys()
            if unknown:
                raise ValueError(f'{name} has no {sorted(unknown)}.')
            namespace.update(parameters or {})
        yield outputs


class _Printed(io.TextIOBase):
    """A stream that adds what is printed to the outputs of a cell."""

    def __init__(self, outputs: list[dict[str, Any]]) -> None:
        self.outputs = outputs

    def write(self, text: str) -> int:
        if not self.outputs or 'text' not in self.outputs[-1]:
            stream = {'name': 'stdout', 'output_type': 'stream', 'text': []}
            self.outputs.append(stream)
        lines = self.outputs[-1]['text']
        whole = ''.join([*lines, text])
        lines[:] = whole.splitlines(keepends=True)
        return len(text)


@contextlib.contextmanager
def _shown(outputs: list[dict[str, Any]]) -> Iterator[None]:
    """Take what ``plt.show`` shows, and what is open when the cell ends."""

    def show(*args: Any, **kwargs: Any) -> None:
        for number in plt.get_fignums():
            figure = plt.figure(number)
            buffer = io.BytesIO()
            figure.savefig(buffer, dpi=80, bbox_inches='tight')
            plt.close(figure)
            data = {'image/png': _small(buffer), 'text/plain': ['<Figure>']}
            outputs.append(
                {'data': data, 'metadata': {}, 'output_type': 'display_data'}
            )

    try:
        with mock.patch.object(plt, 'show', show):
            yield
        show()
    finally:
        plt.close('all')


def _small(picture: io.BytesIO) -> str:
    """A PNG with few colours, in base64."""
    image = Image.open(picture).convert('RGB')
    image = image.quantize(COLORS, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, 'PNG', optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def refresh(path: Path) -> None:
    """Run a notebook in an empty folder and store its outputs."""
    notebook = read(path)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for number, outputs in enumerate(run(notebook), 1):
            cell = code_cells(notebook)[number - 1]
            cell.update(execution_count=number, outputs=outputs)
            print(f'{path.name}: cell {number}', file=sys.stderr)
    notebook['metadata']['code_sha256'] = digest(notebook)
    write(path, notebook)
    print(f'{path}: {os.path.getsize(path) / 1000:.0f} kB')


def main(argv: Sequence[str] | None = None) -> int:
    """Refresh the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('notebooks', nargs='*', type=Path)
    args = parser.parse_args(argv)
    for path in args.notebooks or sorted(FOLDER.glob('*.ipynb')):
        refresh(path.resolve())
    return 0


if __name__ == '__main__':
    sys.exit(main())
