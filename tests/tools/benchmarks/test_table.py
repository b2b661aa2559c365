# Copyright (c) MotionMAE contributors. All rights reserved.
"""Tables of the benchmarks, and the command that they share."""

import benchmark
import pytest
from benchmarks.table import MEMORY, NAME, Column, Table, ratios


def test_table():
    rows = [
        dict(name='a', part=dict(ms=[1.0, 2.0, 4.0]), memory=None),
        dict(name='b', memory=dict(tensors=3_000_000, resident=None)),
    ]
    columns = [
        NAME,
        Column('ms', ('part', 'ms'), '.1f'),
        Column('length', lambda row: len(row['name']), '03d'),
        Column('never', 'never'),
        *MEMORY,
    ]
    assert Table(rows, columns).markdown().splitlines() == [
        '|  | ms | length | never | memory, MB |',
        '| --- | ---: | ---: | ---: | ---: |',
        '| a | 2.0 (1.0 to 4.0) | 001 |  |  |',
        '| b |  | 001 |  | 3 |',
    ]


def test_ratios_are_those_of_each_round():
    assert ratios([10, 20, 40], [2, 10, 5]) == [3.5, 5, 6.5]


def test_commands(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(['--help'])
    text = capsys.readouterr().out
    assert all(f'  {name} ' in text for name in benchmark.COMMANDS)
    with pytest.raises(SystemExit):
        benchmark.main(['dance'])
    for name in benchmark.COMMANDS:
        with pytest.raises(SystemExit):
            benchmark.main([name, '--help'])
        text = capsys.readouterr().out
        assert text.startswith(f'usage: benchmark.py {name} ')
        assert '--json FILE.json' in text
