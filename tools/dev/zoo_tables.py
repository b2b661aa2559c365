# Copyright (c) MotionMAE contributors. All rights reserved.
"""Make the tables of results in README files from the metafiles.

The README of a family of configs says where a table goes and, by a regular
expression of their names, which models of ``metafile.yml`` are its rows::

    <!-- zoo: .*_scratch_.* -->
    <!-- /zoo -->

Run it after a change of a metafile; a test says that it changes nothing.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from mmengine import load

CONFIGS = Path(__file__).parents[2] / 'configs'
MARKERS = re.compile(r'(?<=<!-- zoo: )(\S+)( -->\n).*?(?=<!-- /zoo -->)', re.S)
NUMBERS = ('epochs', 'clips a step', 'GPUs', 'params', 'FLOPs')
SHORT = {'Something-Something V2': 'SSv2', 'any videos': 'your own'}
METRICS = {
    'Action Detection': 'mAP',
    'Action Recognition': 'top-1',
    'Human Part Propagation': 'mIoU',
    'Human Pose Propagation': 'PCK@0.1 / PCK@0.2',
    'Self-Supervised Video Pre-Training': 'top-1',
    'Video Object Segmentation': 'J&F',
}


def cells_of(model: dict[str, Any]) -> dict[str, str]:
    """Texts of a model's row, by the heads of their columns."""
    metadata, (result,) = model['Metadata'], model['Results']
    metric, name = METRICS[result['Task']], model['Name']
    ours = ' / '.join(map(str, (result['Metrics'] or {}).values()))
    cells = {
        'data': metadata.get('Training Data', result['Dataset']),
        'pre-training': metadata.get('Pretrained', ''),
        'backbone': metadata['Architecture'],
        'epochs': metadata.get('Epochs', ''),
        'clips a step': metadata.get('Batch Size', ''),
        'GPUs': metadata.get('Training Resources', '').split(' ')[0],
        'views': metadata.get('Views', ''),
        f'{metric}, ours': ours or 'not run',
        f'reference {metric}': result['Reference'] or '',
        'params': metadata.get('Parameters', ''),
        'FLOPs': metadata.get('FLOPs', ''),
        # Without training there is little else to tell them by.
        'config': f'[{"config" if "Epochs" in metadata else name}]'
        f'(./{name}.py)',
    }
    for head, key in (('data', 'Labels'), ('backbone', 'Variant')):
        if key in metadata:
            cells[head] += f', {metadata[key]}'
    for long, short in SHORT.items():
        cells = {k: str(v).replace(long, short) for k, v in cells.items()}
    return cells


def table_of(models: list[dict[str, Any]]) -> str:
    """A table in Markdown, without the columns that would be empty."""
    rows = [cells_of(model) for model in models]
    heads = [head for head in rows[0] if any(row[head] for row in rows)]
    lines = [heads, *([row[head] for head in heads] for row in rows)]
    head, *body = (f'| {" | ".join(line)} |\n' for line in lines)
    rule = '|'.join('---:' if head in NUMBERS else '---' for head in heads)
    return f'{head}|{rule}|\n{"".join(body)}'


def with_tables(readme: str, metafile: dict[str, Any]) -> str:
    """The text of a README, its tables made anew.

    Raises:
        ValueError: If a model is in no table or in several, or a table empty.
    """
    models = {model['Name']: model for model in metafile['Models']}
    listed: list[str] = []

    def replace(found: re.Match[str]) -> str:
        names = [name for name in models if re.fullmatch(found[1], name)]
        if not names:
            raise ValueError(f'no model is called {found[1]}')
        listed.extend(names)
        return found[1] + found[2] + table_of([models[n] for n in names])

    text = MARKERS.sub(replace, readme)
    wrong = [name for name in models if listed.count(name) != 1]
    if wrong:
        raise ValueError(f'not in one table: {", ".join(wrong)}')
    return text


def main() -> int:
    """Write what has changed, or say so."""
    parser = argparse.ArgumentParser(
        description='make the tables of results in configs/*/README.md from '
        'the metafiles beside them'
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; exit with 1 where a table is not up to date',
    )
    args = parser.parse_args()
    stale = []
    for metafile in sorted(CONFIGS.glob('*/metafile.yml')):
        path = metafile.with_name('README.md')
        old = path.read_text()
        new = with_tables(old, load(metafile))
        if new != old:
            stale.append(path)
            print(path.relative_to(CONFIGS.parent))
            if not args.check:
                path.write_text(new)
    return int(args.check and bool(stale))


if __name__ == '__main__':
    sys.exit(main())
