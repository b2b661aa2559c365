# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/benchmark.py export`, on a tiny network."""

import json

import pytest
import torch
from benchmarks import export as tool
from benchmarks.networks import SIZES, Setup
from helpers.fake_clock import FakeClock

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.cost.network import Size

pytest.importorskip('onnxruntime')

SMALL = ['--num-frames=4', '--img-size=32', '--rounds=3', '--no-compile']


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(SIZES, 'small', Size(32, 2, 2, 16, 2))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_figures(tmp_path, capsys):
    file = tmp_path / 'figures.json'
    args = tool.parse_args([*SMALL, '--json', str(file)])
    result = tool.benchmark(args)
    names = [tool.OURS, tool.STOCK, 'onnxruntime', 'torch.export']
    assert [*result['seconds']] == [*result['differences']] == names
    assert all(len(times) == 3 for times in result['seconds'].values())
    assert result['differences'][tool.OURS] == 0
    assert 0 < max(result['differences'].values()) < 1e-4
    assert json.loads(file.read_text())['seconds'] == result['seconds']
    assert f'| {tool.OURS} | ' in capsys.readouterr().out
    with pytest.raises(UsageError, match='--overwrite'):
        tool.benchmark(args)


def test_times_in_turn():
    clock = FakeClock()
    seen = []
    runs = {
        name: clock.slow(lambda clips, n=name: seen.append((n, clips)), number)
        for number, name in enumerate('abc', 1)
    }
    setup = Setup(SIZES['small'], 1, num_frames=4, img_size=32)
    seconds = tool.time_in_turn(runs, setup, 4, clock)
    assert seconds == dict(a=[1] * 4, b=[2] * 4, c=[3] * 4)
    assert ''.join(name for name, _ in seen) == 'abcbcacababc'
    inputs = [clips for _, clips in seen]
    assert all(torch.equal(inputs[0], clips) for clips in inputs[:3])
    assert not torch.equal(inputs[0], inputs[3])


def test_table():
    text = tool.to_markdown(
        {tool.OURS: [1.0, 2.0, 4.0], 'x': [3.0, 2.0, 2.0]},
        {tool.OURS: 0.0, 'x': 1.5e-6},
    )
    # Of the rounds 3, 1 and 0.5, not of the medians.
    assert text.splitlines()[-1] == '| x | 2.000 | 1.00 | 1.5e-06 |'


def test_scores_that_differ():
    def run(clips):
        return clips + torch.tensor([0.0, 1.0])

    with pytest.raises(UsageError, match='scores of b differ by 5.0e-01'):
        tool.compare({'b': run}, lambda clips: clips, torch.tensor([1.0, 2]))
