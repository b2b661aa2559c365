# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/benchmark.py testing`, on a tiny network and clips."""

import json
from functools import partial

import benchmark
import cv2
import numpy as np
import pytest
import torch
from benchmarks import clips as clip_files
from benchmarks import testing as tool
from benchmarks.networks import SIZES, Setup
from benchmarks.testing_report import Tests as Measured
from benchmarks.testing_setup import OURS, STOCK, build_contenders
from helpers.fake_clock import FakeClock

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.cost.network import Size

CPU = torch.device('cpu')
TINY = Size(32, 2, 2, 16, 2)
SETUP = Setup(TINY, 1, num_frames=4, img_size=32)
SMALL = ['--num-frames=4', '--img-size=32', '--generate=2', '--device=cpu']


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(SIZES, 'small', TINY)
    size = dict(width=64, height=48, num_frames=40)
    write = partial(clip_files.write_clip, **size)
    monkeypatch.setattr(clip_files, 'write_clip', write)
    threads = cv2.getNumThreads()
    yield
    cv2.setNumThreads(threads)


@pytest.fixture
def clips(tmp_path):
    return clip_files.generate(tmp_path / 'clips', 2)


def run(*argv):
    argv = [*SMALL, *map(str, argv)]
    return tool.benchmark(tool.parse_args(argv))


# ------------------------------------------------------------------- table


def test_table():
    stock = [dict(data=d, model=m) for d, m in [(2, 8), (4, 16), (8, 32)]]
    ours = [dict(data=d, model=m) for d, m in [(1, 1), (2, 8), (1, 4)]]
    measured = Measured(
        'title',
        STOCK,
        {STOCK: stock, OURS: ours},
        differences={STOCK: 0.0, OURS: 3e-6},
        memory={STOCK: 5_400_000, OURS: 2_000_000},
    )
    first, row = measured.rows()
    assert first['total'] == [15, 20, 30]
    assert first['total_ratio'] == [1, 1, 1]
    # 10 / 2, 20 / 10 and 40 / 5; not 20 / 5, the medians.
    assert row['total'] == [3.5, 5, 7.5]
    assert row['total_ratio'] == [3.5, 5, 6.5]
    # 2 / 1, 4 / 2 and 8 / 1; 8 / 1, 16 / 8 and 32 / 4.
    assert row['data_ratio'] == [2, 2, 5] and row['model_ratio'] == [5, 8, 8]
    assert row['data'] == [1, 1, 1.5] and row['model'] == [2.5, 4, 6]
    lines = measured.markdown().splitlines()
    assert lines[5] == (
        '| ours | 5.00 (3.50 to 7.50) | 5.00 (3.50 to 6.50) | '
        '1.000 (1.000 to 1.500) | 2.00 (2.00 to 5.00) | '
        '4.00 (2.50 to 6.00) | 8.00 (5.00 to 8.00) | 2 | 3e-06 |'
    )
    measured.memory = {}
    assert 'x stock | difference |' in measured.markdown()


class Fake:
    """Takes so many seconds, and notes who is tested on what."""

    dtype, device = None, CPU

    def __init__(self, name, data, model, clock, order, score=1.0):
        self.name, self.order, self.score = name, order, score
        self.load = clock.slow(self._load, data)
        self.scores = clock.slow(self._scores, model)

    def _load(self, index):
        self.order.append(f'{self.name}{index}')
        return index

    def _scores(self, index):
        return torch.tensor([index, self.score])


def test_times_in_turn(clips):
    clock, order = FakeClock(), []
    seconds = dict(a=(2, 8), b=(0.5, 2), c=(1, 4))
    fakes = [Fake(name, *pair, clock, order) for name, pair in seconds.items()]
    measured = tool.measure('', fakes, clips, 3, False, clock)
    # The first round warms up; then both videos, and the first again.
    assert order == 'c0 a0 b0 a0 b0 c0 b1 c1 a1 c0 a0 b0'.split()
    assert measured.rounds == {
        name: [dict(data=data, model=model)] * 3
        for name, (data, model) in seconds.items()
    }
    assert [row['total_ratio'][1] for row in measured.rows()] == [1, 4, 2]


@pytest.mark.parametrize('score', [1.001, float('nan')])
def test_other_scores_are_an_error(clips, score):
    fakes = [
        Fake(name, 1, 1, FakeClock(), [], score)
        for name, score in ((STOCK, 1.0), ('b', 1.0), (OURS, score))
    ]
    with pytest.raises(UsageError, match="'clip00000.mp4'.*of 'ours' are no"):
        tool.measure('', fakes, clips, 1, False)
    fakes[2].dtype = torch.bfloat16
    # Only told, not an error.
    measured = tool.measure('', fakes, clips, 1, False)
    assert measured.differences[OURS] == pytest.approx(
        score - 1, rel=1e-3, nan_ok=True
    )
    assert measured.differences['b'] == 0


# -------------------------------------------------------------- contenders


@pytest.mark.parametrize(
    'views,count', [('2x3', 6), ('5x3', 15), ('10x3', 30)]
)
def test_same_views(clips, views, count):
    stock, *others = build_contenders(clips, views, SETUP, CPU)
    for index in range(2):
        (inputs,) = stock.load(index)['inputs']
        assert inputs.shape == (count, 3, 4, 32, 32)
        for other in others:
            assert torch.equal(other.load(index)['inputs'][0], inputs)


def test_scores_are_means_over_views(clips):
    contenders = build_contenders(clips, '2x3', SETUP, CPU, [4], amp=True)
    names = [STOCK, f'{OURS}, stock ViT', OURS, f'{OURS}, 4 views at once']
    assert [c.name for c in contenders] == [*names, f'{OURS}, bf16']
    model = contenders[0].model
    (views,) = contenders[0].load(1)['inputs']
    shape = (1, 3, 1, 1, 1)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(shape)
    std = torch.tensor([58.395, 57.12, 57.375]).view(shape)
    with torch.no_grad():
        features = model.backbone((views - mean) / std)
        wanted = model.cls_head.fc_cls(features).softmax(-1).mean(0)
    assert wanted.max() > 0.02  # 1 / 174 is 0.006
    for contender in contenders[:4]:
        scores = contender.scores(contender.load(1))
        torch.testing.assert_close(scores, wanted, atol=1e-6, rtol=1e-4)
    contenders[2].model.backbone.blocks[0].attn.qkv.weight.data *= 1.5
    with pytest.raises(UsageError, match="of 'ours' are not those"):
        tool.measure('', contenders[:3], clips, 1, False)
    half = contenders[4].scores(contenders[4].load(1))
    assert half.dtype == torch.float32
    assert 1e-6 < (half - wanted).abs().max() < 0.02


def test_memory_of_views(clips):
    size = Size(256, 1, 8, 16, 2, patch_size=8)
    setup = Setup(size, 1, num_frames=4, img_size=64)
    contenders = build_contenders(clips, '5x3', setup, CPU, [1])
    rows = tool.measure('', contenders, clips, 1).rows()
    stock, stock_vit, ours, one_view = (row['memory'] for row in rows)
    assert stock == stock_vit  # the same network
    # Stock keeps attention of 8 heads between 128 tokens of each view; all
    # have the views as float32.
    assert stock > 15 * 8 * 128 * 128 * 4
    assert 15 * 3 * 4 * 64 * 64 * 4 <= one_view < ours < stock


# -------------------------------------------------------------------- runs


def test_run(tmp_path):
    files = [f'--markdown={tmp_path}/a.md', f'--json={tmp_path}/a.json']
    result = run('--max-testing-views', 1, '--amp', '--rounds', 2, *files)
    text = (tmp_path / 'a.md').read_text()
    assert text == result['markdown'] + '\n'
    found = json.loads((tmp_path / 'a.json').read_text())
    assert '2x3 views of 4 frames of 32x32; 2 generated clips, 64x48' in text
    totals = {
        name: np.array([r['data'] + r['model'] for r in rounds])
        for name, rounds in found['rounds'].items()
    }
    assert len(totals) == len(found['rows']) == 5
    for row in found['rows']:
        own = totals[row['name']]
        assert len(own) == 2
        ratio = np.median(totals[STOCK] / own)
        assert row['total_ratio'][1] == pytest.approx(ratio)
        assert f'| {row["name"]} | {np.median(own):.2f} (' in text
        if 'bf16' not in row['name']:
            assert row['difference'] <= 1e-6


def test_given_videos(tmp_path):
    folder = tmp_path / 'mine'
    clip_files.generate(folder, 3)
    argv = ['--videos', folder, '--rounds', 1]
    result = run(*argv, '--no-memory')
    assert '1 given videos, 64x48' in result['title']
    assert 'memory, MB' not in result['markdown']
    assert [row['memory'] for row in result['rows']] == [None] * 3
    for path in folder.glob('*.mp4'):
        path.write_bytes(b'no video')
    with pytest.raises(UsageError, match='cannot be read'):
        run(*argv)


# --------------------------------------------------- what a user gets wrong


def test_mistakes(tmp_path, capsys):
    old = tmp_path / 'old'
    old.write_text('precious')
    for flag in ('--markdown', '--json'):
        with pytest.raises(UsageError, match='old.*--overwrite'):
            run(f'{flag}={old}')
    assert old.read_text() == 'precious'
    with pytest.raises(UsageError, match='less than 6, the views of 2x3'):
        run('--max-testing-views', 2, 6)
    with pytest.raises(UsageError, match='40'):  # no multiple of 16
        run('--img-size', 40)
    for bad in (['--views', '3x3'], ['--rounds', '0'], ['--size', 'tiny']):
        with pytest.raises(SystemExit):
            tool.parse_args(bad)
    capsys.readouterr()
    assert benchmark.main(['testing', '--videos', 'missing']) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and error.startswith('error: ')
