# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/benchmark.py lists`, on short lists."""

import json

from benchmarks import lists as tool

from mmmotionmae.datasets.annotation import opening


def test_figures_of_short_lists(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, 'INDEX_FROM', 1000)
    argv = ['--lines', '3', '500', '--stock-up-to', '3']
    argv += ['--folder', str(tmp_path), '--json', str(tmp_path / 'x.json')]
    result = tool.benchmark(tool.parse_args(argv))
    short, long = json.loads((tmp_path / 'x.json').read_text())['rows']
    assert (short['lines'], long['lines']) == (3, 500)
    assert short['index_bytes'] == 0 < long['index_bytes']
    assert 'stock' in short and 'stock' not in long
    for row in (short, long):
        for part in ('build', 'open', 'first', 'epoch'):
            assert 0 <= row[part]['seconds']
            assert row[part]['lasting'] <= row[part]['peak']
    assert '| 500 |' in result['markdown']
    assert [path.name for path in tmp_path.iterdir()] == ['x.json']
