# Copyright (c) MotionMAE contributors. All rights reserved.
"""Lists with random mistakes: values, or an error that has the line."""

import random
import re

import pytest

from mmmotionmae.datasets.annotation import Layout, open_list
from mmmotionmae.utils.errors import AnnotationError

SEEDS = {
    'list.txt': [
        'a/b.mp4 3',
        '"a, b.mp4",3',
        'a b.mp4 1.5 7.25 2',
        'a.mp4 0 -1',
        'clip 120 3',
        's3://x/t.tar@512@99 4',
        'a\\b.mp4 5',
        'path,label',
    ],
    'list.csv': ['path,label,start,end', '"a, 1.mp4",3,1.5,2', 'b.mp4,0,,'],
    'list.json': ['["a.mp4", {"path": "b", "label": 3,', '"start": 1.5}]'],
    'list.jsonl': ['{"path": "b é", "label": [3, 1]}', '"a.mp4"'],
}
PIECES = [
    *'\t \r\n,;|"\\\0\'-.0123456789[]{}:é\x85\u2028\ufeff',
    '1e9',
    '9' * 25,
    '9' * 5000,
    ' -1',
    'nan',
    'null',
    '\\ud800',
    '٣',
    '²',
    '.mp4',
    'label',
]
LAYOUTS = [
    Layout(),
    Layout(frames=True),
    Layout(frames=True, with_offset=True),
    Layout(multi_class=True),
    Layout(delimiter=','),
    Layout.of(columns=('start', 'end', 'label')),
    Layout.of(frames=True, columns=('start_index', 'total_frames')),
    Layout.of(columns=dict(path='path')),
]


def mutate(rng, data):
    """Insert, remove, double or exchange a few bytes of a line."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            data[at:at] = rng.choice(PIECES).encode()
        elif kind == 1:
            del data[at : at + rng.randint(1, 6)]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randint(1, 6)]
        else:
            data[at : at + 1] = bytes([rng.randrange(256)])
    return bytes(data)


def check(tmp_path, rng):
    """A list of which one line has mistakes, read in all ways."""
    name = rng.choice(list(SEEDS))
    lines = [line.encode() for line in SEEDS[name]]
    if name == 'list.txt':
        lines = rng.sample(lines, rng.randint(1, 3))
    at = rng.randrange(len(lines))
    lines[at] = mutate(rng, lines[at])
    path = tmp_path / name
    path.unlink(missing_ok=True)  # quicker than to write over it
    path.write_bytes(b'\n'.join(lines) + rng.choice((b'', b'\n')))
    layout = rng.choice([Layout(), rng.choice(LAYOUTS)])
    try:
        entries = list(
            open_list(str(path), layout, rng.choice((None, 5))).entries()
        )
    except AnnotationError as error:
        text = str(error)
        assert re.search(rf'{re.escape(str(path))}, line \d+\b', text) or (
            text.endswith('lists no videos.')
        ), text
        return 0
    assert entries
    for entry in entries:
        assert entry['path'] and isinstance(entry['path'], str)
        label = entry['label']
        several = isinstance(label, list)
        assert several == layout.multi_class
        assert all(type(x) is int for x in (label if several else [label]))
        if layout.frames:
            assert entry['total_frames'] >= 1
        if 'clip_start' in entry:
            assert 0 <= entry['clip_start']
            assert entry['clip_end'] == -1 or (
                entry['clip_start'] < entry['clip_end'] < 1e18
            )
    return 1


@pytest.mark.parametrize(
    ('number', 'seed'),
    [(1000, 1), pytest.param(10_000, 2, marks=pytest.mark.slow)],
)
def test_random_mistakes(tmp_path, number, seed):
    rng = random.Random(seed)
    good = sum(check(tmp_path, rng) for _ in range(number))
    assert 0.05 * number < good < 0.9 * number  # both are met
