# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/benchmark.py scaling`, on a tiny network."""

import json
import math
import sys

import benchmark
import numpy as np
import pytest
import torch
from benchmarks import scaling as tool
from benchmarks import scaling_steps
from benchmarks.networks import SIZES, Setup, our_config
from benchmarks.scaling_report import Scaling, markdown, plot, slope
from benchmarks.scaling_steps import PARTS, Case, Point, Steps
from helpers.fake_clock import FakeClock
from mmaction.registry import MODELS

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.cost.network import Size
from mmmotionmae.models import MotionMAE

TINY = Size(32, 2, 2, 16, 4, decoder_depth=3, patch_size=8)
SETUP = Setup(TINY)
ONE_CLIP = Setup(TINY, batch_size=1)
POINT = Point(8, 32)  # 4 x 4 x 4 tokens


# ------------------------------------------------------------------ tokens


def test_tokens():
    base = Setup(SIZES['base'])
    assert Point(16, 224).tokens(base) == (1568, 160)
    assert Point(64, 112).tokens(base) == (32 * 49, 32 * 5)
    with pytest.raises(ValueError, match='height is 100'):
        Point(16, 100).tokens(base)


# ----------------------------------------------------------------- verdict


def test_slope():
    x = [1, 2, 5, 30]
    assert slope(x, [3 * v**1.5 for v in x]) == pytest.approx(1.5)
    noisy = np.array([3.0, 6.0]) * [1.1, 1.1]
    assert slope([1, 2], noisy) == pytest.approx(1)
    assert math.isnan(slope([2, 2], [1, 3]))


def scaling(power=1.0, points=(4, 8, 16), with_cp=False):
    """Synthetic times: attention, optimiser, and a power of the tokens."""
    rounds = {}
    for frames in points:
        tokens = Point(frames, 32).tokens(SETUP)[0]
        times = dict(
            encoder=tokens / 2,
            decoder=1e-3 * tokens**2,
            attention=1e-3 * tokens**2,
            optimizer=7.0,
            rest=tokens**power / 2,
        )
        total = sum(times.values()) - times['attention']
        one = dict(times, total=total)
        # A machine that slows down in some rounds does so for all.
        rounds[Point(frames, 32)] = [
            {part: ms * slower for part, ms in one.items()}
            for slower in (1, 3, 2)
        ]
    return Scaling(SETUP, POINT, with_cp, rounds)


def test_figures_of_synthetic_times():
    rows = scaling().rows()
    assert [row['name'] for row in rows] == ['4x32', '8x32', '16x32']
    assert [row['tokens'] for row in rows] == [32, 64, 128]
    flops = POINT.step_flops(SETUP)
    middle = rows[1]
    once = 64 + 4.096 + 7
    assert middle['ms'] == pytest.approx([1.5 * once, 2 * once, 2.5 * once])
    assert middle['tflop'] * 1e12 == flops
    assert middle['relative'] == pytest.approx([1, 1, 1])
    assert middle['gflop_per_second'] == pytest.approx(flops / once / 2e6)
    assert middle['parts']['encoder'] == pytest.approx(64)
    relative = (128 + 16.384 + 7) / once * flops / (rows[2]['tflop'] * 1e12)
    assert rows[2]['relative'] == pytest.approx([relative] * 3)


def test_linear_growth_is_no_surprise():
    verdict = scaling().verdict()
    assert verdict['growth'] == pytest.approx(1) and verdict['passed']
    assert verdict['linear_slope'] == pytest.approx(1)
    rows = scaling().rows()
    assert verdict['slope'] == pytest.approx(
        slope([r['tflop'] for r in rows], [r['ms'][1] for r in rows])
    )
    text = markdown([scaling(), scaling(with_cp=True)])
    assert text.count('no super-linear surprise') == 2
    assert '| 16x32, with_cp | 128 | 16 |' in text


def test_super_linear_growth_is_found():
    found = scaling(power=1.5)
    verdict = found.verdict()
    # From 64 to 128 tokens.
    growth = (1 + 128**0.5) / (1 + 64**0.5)
    assert verdict['growth'] == pytest.approx(growth)
    assert verdict['growth_of_layers'] == pytest.approx(1)
    assert verdict['growth_of_rest'] == pytest.approx(2**0.5)
    assert 1.4 < verdict['linear_slope'] < 1.5
    assert verdict['passed'] is False
    assert ': a super-linear surprise' in markdown([found])


def test_nothing_above_the_reference():
    verdict = scaling(power=1.5, points=(4, 8)).verdict()
    assert verdict['growth'] is None and verdict['passed'] is None
    assert verdict['growth_of_rest'] is None
    assert 'nothing larger than 8x32 was measured' in verdict['text']


# ------------------------------------------------------------------- steps


def slow(clock, forward, backward, function=torch.clone):
    """A function whose passes take so many seconds."""

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            clock.advance(forward)
            ctx.save_for_backward(*inputs)
            return function(*inputs)

        @staticmethod
        def backward(ctx, grad):
            clock.advance(backward)
            inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
            with torch.enable_grad():
                out = function(*inputs)
            return torch.autograd.grad(out, inputs, grad)

    return lambda *inputs, **kwargs: Slow.apply(*inputs)


def slow_hook(*args):
    """For a hook of a module: its output comes late, and so do gradients."""
    function = slow(*args)
    return lambda module, inputs, output: function(output)


def test_parts_are_told_apart():
    clock = FakeClock()
    case = Case(POINT)
    steps = Steps(SETUP, [case], clock=clock)
    model = steps.models[case]
    for module, seconds in (
        (model.backbone.blocks[0], (1, 2)),
        (model.backbone.norm, (4, 8)),
        (model.neck.decoders['shared'].norm, (16, 32)),
        (model.head.predictors['motion'], (64, 128)),
    ):
        module.register_forward_hook(slow_hook(clock, *seconds))
    model.data_preprocessor.register_forward_hook(
        lambda *args: clock.advance(256)
    )
    steps.optimizer.register_step_pre_hook(lambda *args: clock.advance(512))
    assert steps.time(case) == dict(
        encoder=(1 + 2 + 4 + 8) * 1e3,
        decoder=(16 + 32) * 1e3,
        attention=0,
        optimizer=512e3,
        rest=(64 + 128 + 256) * 1e3,
        total=1023e3,
    )
    assert set(steps.time(case)) == {*PARTS, 'total'}


def test_cases_share_their_parameters():
    cases = [Case(Point(4, 32)), Case(POINT), Case(POINT, with_cp=True)]
    steps = Steps(ONE_CLIP, cases)
    first, second, third = (steps.models[case] for case in cases)
    others = dict(third.named_parameters())
    for name, value in first.named_parameters():
        assert value is others[name]
    assert first.backbone.pos_embed.shape == (1, 32, 32)
    assert second.backbone.pos_embed.shape == (1, 64, 32)
    assert third.backbone.with_cp and not second.backbone.with_cp
    before = third.backbone.norm.weight.clone()
    for case in cases:
        steps.time(case)
        assert not torch.equal(third.backbone.norm.weight, before)
        before = third.backbone.norm.weight.clone()
    expected = MODELS.build(
        our_config('shared', POINT.of(SETUP))
    ).neck.decoders['shared']
    assert torch.equal(
        second.neck.decoders['shared'].pos_embed, expected.pos_embed
    )


def test_attention_is_timed_within_the_step(monkeypatch):
    clock = FakeClock()
    attend = torch.nn.functional.scaled_dot_product_attention
    slow_attend = slow(clock, 1, 2, attend)
    cases = [Case(POINT), Case(POINT, with_cp=True)]
    steps = Steps(ONE_CLIP, cases, clock=clock)
    for model in steps.models.values():
        model.backbone.norm.register_forward_hook(slow_hook(clock, 16, 32))
    monkeypatch.setattr(
        torch.nn.functional, 'scaled_dot_product_attention', slow_attend
    )
    # Two blocks of the encoder and three of the decoder; checkpointing
    # computes the forward pass twice.
    for case, seconds in zip(cases, (1 + 2, 1 + 1 + 2), strict=True):
        assert steps.time(case) == dict(
            encoder=(2 * seconds + 16 + 32) * 1e3,
            decoder=3 * seconds * 1e3,
            attention=5 * seconds * 1e3,
            optimizer=0,
            rest=0,
            total=(5 * seconds + 16 + 32) * 1e3,
        )
    attention = torch.nn.functional.scaled_dot_product_attention
    assert attention is slow_attend


def test_every_case_is_measured_once_a_round():
    cases = [Case(Point(frames, 32)) for frames in (4, 8, 16)]
    order = []

    class Recorder:
        def time(self, case):
            order.append(case)
            return dict(total=float(len(order)))

    times = scaling_steps.measure(Recorder(), cases, 3)
    a, b, c = cases
    assert order == [a, b, c, a, b, c, b, c, a, c, a, b]
    assert [one['total'] for one in times[a]] == [4, 9, 11]


# ------------------------------------------------------------ command line


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch):
    monkeypatch.setitem(SIZES, 'tiny', TINY)


def run(*argv):
    argv = ['--device=cpu', '--rounds=2', *map(str, argv)]
    return tool.benchmark(tool.parse_args(argv))


TINY_RUN = ['--model=tiny', '--reference', 8, 32, '--frames', 4, 8]
TINY_RUN += ['--sizes', 32, 48]


def test_run(tmp_path, capsys):
    files = [f'--out={tmp_path}/a.md', f'--json={tmp_path}/a.json']
    result = run(*TINY_RUN, '--with-cp', *files, f'--plot={tmp_path}/a.svg')
    text = (tmp_path / 'a.md').read_text()
    assert text == result['markdown'] + '\n' and text in capsys.readouterr()[0]
    figures = json.loads((tmp_path / 'a.json').read_text())
    names = [[r['name'] for r in t['rows']] for t in figures['tables']]
    assert names == [
        ['4x32', '8x32', '8x48'],
        ['4x32, with_cp', '8x32, with_cp', '8x48, with_cp'],
    ]
    for table in figures['tables']:
        assert [row['tokens'] for row in table['rows']] == [32, 64, 144]
        assert table['rows'][1]['relative'] == [1, 1, 1]
        for row in table['rows']:
            totals = [t['total'] for t in table['rounds'][row['name'][:4]]]
            assert row['ms'][1] == pytest.approx(np.median(totals))
            assert f'| {row["name"]} | {row["tokens"]} | ' in text
    assert figures['settings']['reference'] == [8, 32]
    assert figures['device'] == 'cpu' and figures['threads'] >= 1
    assert figures['date'] in text and figures['command'] in text
    plot = (tmp_path / 'a.svg').read_text()
    assert '<svg' in plot


def test_plot_is_an_image(tmp_path):
    file = tmp_path / 'a.png'
    plot([scaling(), scaling(with_cp=True)], file, 'title')
    assert file.read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'


def test_mistakes(tmp_path, monkeypatch):
    (tmp_path / 'old.png').write_text('precious')
    for flag in ('--out', '--json', '--plot'):
        with pytest.raises(UsageError, match='old.png.*--overwrite'):
            run(*TINY_RUN, f'{flag}={tmp_path}/old.png')
    assert (tmp_path / 'old.png').read_text() == 'precious'
    with pytest.raises(UsageError, match='height is 36, not a multiple of 8'):
        run(*TINY_RUN, '--sizes', 36)
    with pytest.raises(UsageError, match='8x8 is too small to mask'):
        run(*TINY_RUN, '--sizes', 8)
    with pytest.raises(UsageError, match='must end in .png or .svg'):
        run(*TINY_RUN, f'--plot={tmp_path}/a.pdf')
    with pytest.raises(UsageError, match="--device is cpu, .* not 'tpu'"):
        run(*TINY_RUN, '--device=tpu')
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with pytest.raises(UsageError, match=r"pip install 'mmmotionmae\[demo\]'"):
        run(*TINY_RUN, f'--plot={tmp_path}/a.png')


def test_one_line_of_error(capsys):
    argv = ['scaling', '--device=cuda:99', '--model=tiny']
    assert benchmark.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: There is no device 'cuda:99'")
    assert error.count('\n') == 1


def test_too_little_memory(monkeypatch):
    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError('CUDA out of memory.\nTried much.')

    monkeypatch.setattr(MotionMAE, 'loss', fail)
    with pytest.raises(UsageError, match='^4x32 does not fit.*--batch-size'):
        run(*TINY_RUN)
