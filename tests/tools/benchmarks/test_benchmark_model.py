# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/benchmark.py model`, at sizes that take milliseconds."""

import importlib.util
import json
import os
import statistics
import sys
from dataclasses import replace
from itertools import count

import benchmark
import pytest
import torch
from benchmarks import contenders, memory, model_report, networks, steps
from benchmarks import model as tool
from benchmarks.clones import videomae
from benchmarks.networks import SIZES, Setup, draw_batch
from einops import rearrange
from helpers.fake_clock import FakeClock
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.cost.network import Size

TINY = Size(32, 2, 2, 16, 2, decoder_depth=2, patch_size=8)
SETUP = Setup(TINY, img_size=32)  # 8x4x4 tokens, 14 of 16 places masked
OURS = list(networks.OURS)
# A clone of the official code; nothing is downloaded for a test.
CHECKOUT = os.environ.get('VIDEOMAE_CHECKOUT')


def ticking():
    """A timer that has a second between two looks at its clock."""
    return steps.StageTimer('cpu', count(0.0).__next__)


def count_flops(function, *args, **kwargs):
    """What PyTorch counts; of attention it knows only the plain kernel."""
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        function(*args, **kwargs)
    return counter.get_total_flops()


# ------------------------------------------------------------------- input


def test_batch_is_that_of_videomae():
    batch = draw_batch(Setup(SIZES['base']), seed=3)
    assert batch.frames.shape == (2, 3, 16, 224, 224)
    assert batch.frames.dtype == torch.uint8
    assert batch.frames.min() == 0 and batch.frames.max() == 255
    assert batch.mask.sum(1).tolist() == [1408, 1408]
    tubes = rearrange(batch.mask, 'b (t s) -> b t s', t=8)
    assert (tubes == tubes[:, :1]).all()
    assert not torch.equal(batch.mask[0], batch.mask[1])
    assert torch.equal(batch.samples[1].mask, batch.mask[1:])


def test_batches_of_seeds():
    one, same, other = (draw_batch(SETUP, seed) for seed in (1, 1, 2))
    assert torch.equal(one.frames, same.frames)
    assert torch.equal(one.mask, same.mask)
    assert not torch.equal(one.frames, other.frames)
    assert not torch.equal(one.mask, other.mask)


# ------------------------------------------------------------------- FLOPs


@pytest.mark.parametrize('attention', ['sdpa', 'eager'])
def test_flops_of_transformers(attention):
    setup = Setup(TINY, num_frames=8, img_size=48, hf_attention=attention)
    contender = contenders.build('pretrain', 'transformers', setup)
    batch = draw_batch(setup, seed=0)
    counted = count_flops(contender.forward, batch)
    assert counted == 2 * contender.flops
    assert contender.step_flops == 3 * counted


def test_training_is_three_times_the_forward_pass():
    contender = contenders.build('pretrain', 'transformers', SETUP)
    batch = draw_batch(SETUP, seed=0)
    counted = count_flops(lambda: contender.forward(batch).backward())
    # The frames need no gradient.
    embedding = 2 * 2 * 128 * (3 * 2 * 8 * 8) * 32
    assert counted == contender.step_flops - embedding


@pytest.mark.parametrize('key', ['stock', 'fused', 'motionmae'])
def test_flops_of_features(key):
    contender = contenders.build('features', key, SETUP)
    batch = draw_batch(SETUP, seed=0)
    counted = count_flops(contender.forward, batch)
    assert counted == contender.step_flops == 2 * contender.flops


@pytest.mark.parametrize('key', ['stock', 'fused'])
def test_flops_of_fine_tuning(key):
    contender = contenders.build('finetune', key, SETUP)
    counted = count_flops(contender.forward, draw_batch(SETUP, seed=0))
    assert contender.step_flops == 3 * counted


# -------------------------------------------------------------- contenders


def parameters(key):
    contender = contenders.build('pretrain', key, SETUP)
    return sum(p.numel() for p in contender.model.parameters())


def test_same_network():
    pixel = parameters('pixel')
    assert parameters('transformers') == pixel
    # Another last layer, 16 to 384; another decoder.
    last = 16 * 384 + 384
    assert parameters('shared') == pixel + last
    decoder = 32 * 16 + 16 + 2 * (12 * 16**2 + 12 * 16) + 2 * 16
    assert parameters('independent') == pixel + last + decoder


@pytest.mark.parametrize('key', ['transformers', *OURS])
def test_step_trains(key):
    contender = contenders.build('pretrain', key, SETUP)
    timer = ticking()
    batch = draw_batch(SETUP, seed=0)
    before = [p.detach().clone() for p in contender.model.parameters()]
    first = float(contender.forward(batch).detach())
    contender.optimizer.param_groups[0]['lr'] = 1e-3
    times = contender.step(batch, timer)
    after = list(contender.model.parameters())
    changed = [
        not torch.equal(a, b) for a, b in zip(before, after, strict=True)
    ]
    assert sum(changed) > 0.9 * len(changed)
    # The optimiser is at work before and after the backward pass.
    assert times == dict(forward=1e3, optimiser=2e3, backward=1e3, total=4e3)
    for _ in range(10):
        contender.step(batch, timer)
    assert 0 < float(contender.forward(batch).detach()) < first


@pytest.mark.parametrize(
    'key,optimizer', [('transformers', {}), ('pixel', dict(fused=True))]
)
def test_optimisers(key, optimizer):
    contender = contenders.build('pretrain', key, SETUP)
    assert type(contender.optimizer) is torch.optim.AdamW
    assert contender.optimizer.defaults['fused'] == optimizer.get('fused')
    (group,) = contender.optimizer.param_groups
    assert len(group['params']) == len(list(contender.model.parameters()))


@pytest.mark.parametrize('mode', ['finetune', 'features'])
@pytest.mark.parametrize('key', ['stock', 'fused'])
def test_other_modes(mode, key):
    contender = contenders.build(mode, key, SETUP)
    batch = draw_batch(SETUP, seed=0)
    times = contender.step(batch, ticking())
    gradients = [p.grad is not None for p in contender.model.parameters()]
    if mode == 'finetune':
        assert all(gradients) and contender.model.training
        assert list(times) == ['forward', 'optimiser', 'backward', 'total']
    else:
        assert not any(gradients) and not contender.model.training
        assert list(times) == ['forward', 'total']
        assert contender.forward(batch).shape == (2, 32)


def test_normalise():
    frames = torch.randint(256, (2, 3, 2, 4, 4), dtype=torch.uint8)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1, 1)
    torch.testing.assert_close(
        steps.normalise(frames), (frames.float() - mean) / std
    )


def test_compiled_variants(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, 'compile', lambda m: asked.append(m) or m)
    keys = contenders.with_compiled(['official', 'transformers', 'stock'])
    assert keys == [
        'official',
        'transformers',
        'transformers+compiled',
        'stock',
    ]
    contender = contenders.build('pretrain', 'pixel+compiled', SETUP)
    assert contender.name == 'ours, pixel, compiled'
    assert asked == [contender.model]
    contender.step(draw_batch(SETUP, 0), ticking())


@pytest.mark.slow
@pytest.mark.skipif(not tool.has_compiler(), reason='there is no C++ compiler')
@pytest.mark.parametrize('key', ['transformers', 'shared'])
def test_compiled_gives_the_same(key):
    size = replace(TINY, depth=1)
    setup = replace(SETUP, size=size)
    contender = contenders.build('pretrain', f'{key}+compiled', setup)
    batch = draw_batch(SETUP, seed=0)
    losses, gradients = [], []
    for network in (contender.network, contender.model):
        contender.network = network
        contender.model.zero_grad()
        loss = contender.forward(batch)
        contender.backward(loss)
        losses.append(loss.detach())
        gradients.append(
            [p.grad.clone() for p in contender.model.parameters()]
        )
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


# ------------------------------------------------------- the official code

FINETUNE = """
from timm.models.layers import drop_path, to_2tuple, trunc_normal_
from timm.models.registry import register_model
import importlib.util

FOUND = importlib.util.find_spec('timm') is not None
PAIR = to_2tuple(3), to_2tuple((4, 5))

@register_model
def five():
    return 5
"""
PRETRAIN = """
import torch
from torch import nn
from modeling_finetune import FOUND, PAIR, five
from timm.models.layers import trunc_normal_

class PretrainVisionTransformer(nn.Module):
    def __init__(self, decoder_num_classes, **sizes):
        super().__init__()
        self.sizes = sizes
        self.mask_token = nn.Parameter(torch.ones(1, 1, 4))
        self.head = nn.Linear(4, decoder_num_classes)

    def no_weight_decay(self):
        return {'mask_token'}

    def forward(self, x, mask):
        count = int(mask[0].sum())
        return self.head(self.mask_token.expand(len(x), count, -1))
"""


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / 'modeling_finetune.py').write_text(FINETUNE)
    (tmp_path / 'modeling_pretrain.py').write_text(PRETRAIN)
    return tmp_path


def official(checkout):
    setup = Setup(TINY, img_size=32, checkout=str(checkout))
    return contenders.build('pretrain', 'official', setup)


def test_timm_is_there_for_the_import_only(checkout, monkeypatch):
    mine = object()
    monkeypatch.setitem(sys.modules, 'modeling_finetune', mine)
    before = dict(sys.modules)
    path = list(sys.path)
    models = videomae.load_models(str(checkout))
    assert models.FOUND and models.five() == 5
    assert models.PAIR == ((3, 3), (4, 5))
    assert models.trunc_normal_ is nn.init.trunc_normal_
    assert sys.modules == before and sys.path == path
    assert sys.modules['modeling_finetune'] is mine
    assert importlib.util.find_spec('timm') is None


def test_timm_is_gone_after_an_error(checkout):
    (checkout / 'modeling_pretrain.py').write_text('raise KeyError("x")')
    with pytest.raises(KeyError):
        videomae.load_models(str(checkout))
    assert 'timm' not in sys.modules
    assert 'modeling_finetune' not in sys.modules


def test_targets_of_the_official_code(checkout):
    contender = official(checkout)
    batch = draw_batch(SETUP, seed=0)
    videos = steps.normalise(batch.frames)
    labels = contender.labels(videos, batch.mask)
    assert labels.shape == (2, 112, 384)
    for row, clip, mask in zip(labels, batch.frames, batch.mask, strict=True):
        for label, place in zip(row, mask.nonzero(), strict=True):
            t, y, x = int(place) // 16, int(place) // 4 % 4, int(place) % 4
            tubelet = clip[:, 2 * t :, 8 * y :, 8 * x :][:, :2, :8, :8]
            tubelet = tubelet.flatten(1) / 255
            std, mean = torch.std_mean(tubelet, dim=1, keepdim=True)
            values = (tubelet - mean) / (std + 1e-6)
            torch.testing.assert_close(
                label, values.t().flatten(), rtol=1e-4, atol=1e-5
            )
    outputs = contender.model(videos, batch.mask)
    assert float(contender.forward(batch).detach()) == pytest.approx(
        float(((outputs - labels) ** 2).mean().detach())
    )


def test_step_of_the_official_code(checkout):
    contender = official(checkout)
    assert contender.name == 'official VideoMAE'
    assert contender.model.sizes['encoder_embed_dim'] == 32
    assert contender.model.sizes['decoder_depth'] == 2
    model = contender.model
    decays = {
        id(parameter): group['weight_decay']
        for group in contender.optimizer.param_groups
        for parameter in group['params']
    }
    assert decays == {
        id(model.head.weight): 0.05,
        id(model.head.bias): 0,
        id(model.mask_token): 0,
    }
    assert not contender.optimizer.defaults['fused']
    before = model.head.weight.detach().clone()
    times = contender.step(draw_batch(SETUP, 0), ticking())
    assert not torch.equal(before, model.head.weight)
    assert set(times) == {'forward', 'backward', 'optimiser', 'total'}


def test_official_code_is_not_there(tmp_path):
    with pytest.raises(UsageError, match='modeling_finetune.py.*MCG-NJU'):
        official(tmp_path)
    setup = Setup(TINY, num_frames=8, img_size=32, checkout=str(tmp_path))
    with pytest.raises(UsageError, match='16 frames only, not 8'):
        contenders.build('pretrain', 'official', setup)


@pytest.mark.skipif(not CHECKOUT, reason='VIDEOMAE_CHECKOUT is not set')
def test_the_real_official_code():
    contender = official(CHECKOUT)
    batch = draw_batch(SETUP, seed=0)
    number = sum(p.numel() for p in contender.model.parameters())
    assert number == parameters('pixel')
    counted = count_flops(contender.forward, batch)
    assert counted == 2 * contender.flops
    first = float(contender.forward(batch).detach())
    contender.optimizer.param_groups[0]['lr'] = 1e-3
    for _ in range(20):
        contender.step(batch, ticking())
    assert float(contender.forward(batch).detach()) < first


# ------------------------------------------------------------------ timing


def test_timer_sums_stages():
    times = iter([10.0, 10.5, 10.75, 12.0, 12.125])
    timer = steps.StageTimer('cpu', times.__next__)
    timer.start()
    for stage in ('forward', 'optimiser', 'backward', 'optimiser'):
        timer.mark(stage)
    assert timer.stop() == dict(
        forward=500, optimiser=375, backward=1250, total=2125
    )


def test_stages_are_told_apart(monkeypatch):
    clock = FakeClock()
    contender = contenders.build('pretrain', 'pixel', SETUP)
    for owner, name, seconds in (
        (contender, 'forward', 1),
        (contender, 'backward', 2),
        (contender.optimizer, 'zero_grad', 4),
        (contender.optimizer, 'step', 8),
    ):
        method = clock.slow(getattr(owner, name), seconds)
        monkeypatch.setattr(owner, name, method)
    batch = draw_batch(SETUP, seed=0)
    times = contender.step(batch, steps.StageTimer('cpu', clock))
    assert times == dict(
        forward=1000, backward=2000, optimiser=12000, total=15000
    )


class Recorder:
    """Records what it is given; each step takes longer than the last."""

    def __init__(self, name, seen):
        self.name = name
        self.seen = seen

    def step(self, batch, timer):
        self.seen.append((self.name, int(batch.frames.sum())))
        return dict(forward=len(self.seen), total=1000 * len(self.seen))


def test_all_take_turns():
    seen = []
    recorders = [Recorder(name, seen) for name in 'abc']
    rounds, warm_up = steps.time_in_turn(recorders, SETUP, 4)
    assert steps.WARM_UP == 2 and len(seen) == 18
    order = [
        ''.join(name for name, _ in seen[i : i + 3]) for i in range(0, 18, 3)
    ]
    # Two to warm up; then everyone is first once, and last once.
    assert order[2:] == ['abc', 'bca', 'cab', 'abc']
    inputs = [{total for _, total in seen[i : i + 3]} for i in range(0, 18, 3)]
    assert all(len(one) == 1 for one in inputs)  # the same for all
    assert len(set.union(*inputs)) == 6  # another one in each round
    assert {name: len(r) for name, r in rounds.items()} == dict(a=4, b=4, c=4)
    assert rounds['a'][0]['forward'] == 7
    assert order[:2] == ['bca', 'cab']
    assert warm_up == dict(a=3 + 5, b=1 + 6, c=2 + 4)


def test_peak_of_the_machine(monkeypatch):
    clock = FakeClock()

    def product_of(original, seconds):
        def product(x, y):
            assert x.shape == y.shape == (2048, 2048)
            assert x.dtype == y.dtype == torch.float32
            clock.advance(next(seconds))
            return original(x[:8, :8], y[:8, :8])

        return product

    # Two libraries, of which the quickest product counts.
    quick, slow = [9, 7, 6, 4, 5, 8], [9, 8, 8, 8, 8, 8]
    for turn in ((quick, slow), (slow, quick)):
        with monkeypatch.context() as patch:
            for module, seconds in zip((steps.F, steps), turn, strict=True):
                product = product_of(module.linear, iter(seconds))
                patch.setattr(module, 'linear', product)
            peak, source = steps.peak_tflops('cpu', clock)
        assert peak == pytest.approx(2 * 2048**3 / 4 / 1e12)
        assert source == 'measured, float32'
    monkeypatch.setattr(
        torch.cuda, 'get_device_name', lambda: 'NVIDIA A100-SXM4-80GB'
    )
    peak, source = steps.peak_tflops('cuda')
    assert peak == 312 and 'A100' in source


# ------------------------------------------------------------------ memory


def test_tensors_are_counted_exactly():
    before = torch.zeros(100_000)
    kept = []

    def step():
        nonlocal before
        one = torch.zeros(5000)  # 20 kB
        two = torch.zeros(3000, dtype=torch.uint8)
        del one
        before = None  # does not count
        kept.append(torch.zeros(2500))  # 10 kB
        del two
        kept.append(torch.zeros(2600))

    assert memory.peak_of_tensors(step) == 23_000


def test_resident_memory():
    def step():
        torch.ones(50_000_000)  # 200 MB

    found = memory.peak_resident(step)
    if found is None:
        pytest.skip('this system does not tell')
    assert found == pytest.approx(200e6, rel=0.05)


def test_memory_of_a_step():
    size = Size(64, 2, 2, 64, 2, decoder_depth=2, patch_size=8)
    small, large = (
        contenders.measure_memory(
            'features', 'stock', Setup(size, clips, img_size=64)
        )
        for clips in (2, 4)
    )
    # Attention is the largest: two heads of 512 x 512 tokens, twice.
    attention = 4 * 2 * 512**2
    assert 2 * 2 * attention < small.tensors < 3 * 2 * attention
    assert large.tensors == pytest.approx(2 * small.tensors, rel=0.01)


def test_gradients_count():
    memory = contenders.measure_memory('pretrain', 'pixel', SETUP)
    contender = contenders.build('pretrain', 'pixel', SETUP)
    weights = sum(4 * p.numel() for p in contender.model.parameters())
    assert memory.tensors > weights
    again = contenders.measure_memory('pretrain', 'pixel', SETUP)
    assert again.tensors == memory.tensors


@pytest.mark.slow  # the process imports everything anew
def test_memory_in_a_process_of_its_own():
    setup = Setup(TINY, img_size=32, num_threads=1)
    apart = memory.measure_apart(
        contenders.measure_memory, 'features', 'stock', setup, way_out=''
    )
    here = contenders.measure_memory('features', 'stock', setup)
    assert apart.tensors == here.tensors


def test_process_that_does_not_survive(monkeypatch):
    def die(*args):
        raise memory.BrokenProcessPool

    monkeypatch.setattr(memory.ProcessPoolExecutor, 'submit', die)
    with pytest.raises(UsageError, match='memory ran out. Another'):
        memory.measure_apart(
            contenders.measure_memory,
            'pretrain',
            'pixel',
            SETUP,
            way_out='Another',
        )


# ------------------------------------------------------------------ report


def rounds(*times):
    return [
        dict(forward=f, backward=b, optimiser=o, total=f + b + o)
        for f, b, o in times
    ]


@pytest.fixture
def measured():
    return model_report.Steps(
        'pretrain',
        'made up',
        2,
        {
            'them': rounds((100, 200, 100), (100, 240, 60), (300, 400, 100)),
            'us, compiled': rounds((50, 100, 50), (40, 60, 0), (100, 100, 0)),
        },
        {'them': 9.0, 'us, compiled': 5.4},
        {'them': 4 * 10**11, 'us, compiled': 3 * 10**11},
        ['them'],
        2.0,
        {
            'them': memory.Memory(2_000_000, 3_000_000),
            'us, compiled': memory.Memory(1_000_000, None),
        },
    )


def test_figures(measured):
    them, us = measured.rows()
    assert them['ms'] == [400, 400, 600] and us['ms'] == [150, 200, 200]
    assert us['split'] == dict(forward=50, backward=100, optimiser=0)
    assert us['clips_per_second'] == 10
    # 2, 4 and 4 times as fast; without the optimiser 2, 3.4 and 3.5 times.
    assert us['ratios'] == {'them': [3, 4, 4]}
    assert us['ratios_without_optimiser']['them'] == (
        pytest.approx([2.7, 3.4, 3.45])
    )
    assert them['ratios'] == {'them': [1, 1, 1]}
    assert us['tflop'] == 0.3 and us['tflops'] == pytest.approx(1.5)
    assert us['mfu'] == pytest.approx(0.75)
    assert them['mfu'] == pytest.approx(0.5)
    assert us['compile_seconds'] == 5 and them['compile_seconds'] is None
    assert them['memory'] == dict(tensors=2_000_000, resident=3_000_000)


def test_tables(measured):
    speed, work = measured.markdown().split('\n\n')[1:]
    assert speed.splitlines()[-1] == (
        '| us, compiled | 200 (150 to 200) | 50 | 100 | 0 | 10.00 '
        '| 4.00 (3.00 to 4.00) | 3.40 (2.70 to 3.45) |'
    )
    assert work.splitlines()[0] == (
        '|  | TFLOP/step | TFLOP/s | MFU | memory, MB | resident memory, MB '
        '| compiling, s |'
    )
    assert work.splitlines()[2:] == [
        '| them | 0.400 | 1.000 | 50% | 2 | 3 |  |',
        '| us, compiled | 0.300 | 1.500 | 75% | 1 |  | 5 |',
    ]
    measured.memory = {}
    assert 'MB' not in measured.markdown()


# ------------------------------------------------------------ command line


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SIZES, 'tiny', TINY)
    return ['--sizes=tiny', '--img-size=32', '--rounds=3', '--no-memory']


def run(*argv):
    return tool.benchmark(tool.parse_args(argv))


def test_files(tiny, tmp_path, checkout):
    files = [f'--markdown={tmp_path}/a.md', f'--json={tmp_path}/a.json']
    result = run(
        *tiny,
        *files,
        f'--videomae-checkout={checkout}',
        '--peak-tflops=0.5',
        *('--contenders', 'pixel', 'transformers', 'official'),
    )
    text = (tmp_path / 'a.md').read_text()
    assert text == result['markdown'] + '\n'
    figures = json.loads((tmp_path / 'a.json').read_text())
    for part in (figures['date'], figures['command'], figures['cpu']):
        assert part and part in text
    assert figures['commit'] is None or figures['commit'] in text
    assert figures['versions']['transformers']
    assert figures['settings']['img_size'] == 32
    (table,) = figures['tables']
    names = ['official VideoMAE', 'transformers, sdpa', 'ours, pixel']
    assert [row['name'] for row in table['rows']] == names
    assert table['references'] == names[:2]
    assert 'pretrain, tiny, 2 clips of 16 frames of 32x32, 3 rounds' in text
    for row in table['rows']:
        own = [one['total'] for one in table['rounds'][row['name']]]
        assert len(own) == 3
        assert row['ms'][1] == pytest.approx(statistics.median(own))
        for other in names[:2]:
            others = [one['total'] for one in table['rounds'][other]]
            ratios = [a / b for a, b in zip(others, own, strict=True)]
            assert row['ratios'][other][1] == pytest.approx(
                statistics.median(ratios)
            )
        assert row['mfu'] == pytest.approx(2 * row['tflops'])
        assert row['memory'] is None


def test_modes_without_training(tiny, capsys):
    result = run(*tiny, '--mode', 'finetune', 'features', '--peak-tflops=1')
    tuned, features = result['tables']
    assert tuned['rows'][0]['name'] == 'VisionTransformer'
    assert tuned['references'] == ['VisionTransformer']
    assert 'optimiser' in tuned['rows'][0]['split']
    assert features['rows'][-1]['name'] == 'MotionMAEViT'
    assert set(features['rows'][0]['split']) == {'forward'}
    assert result['markdown'].count('optimiser |') == 2  # of the first only


def test_memory_is_measured(tiny, monkeypatch):
    asked = []

    def measure_apart(measure, mode, key, setup, way_out):
        asked.append((mode, key, setup.size))
        return memory.Memory(7_000_000, 8_000_000)

    monkeypatch.setattr(tool, 'measure_apart', measure_apart)
    result = run(*tiny[:-1], '--contenders', 'shared', '--peak-tflops=1')
    assert asked == [('pretrain', 'shared', TINY)]
    (row,) = result['tables'][0]['rows']
    assert row['memory']['tensors'] == 7_000_000
    assert '| 7 | 8 |' in result['markdown']


def test_backbone_that_is_not_registered(tiny, monkeypatch, capsys):
    monkeypatch.setitem(networks.BACKBONES, 'fused', 'Missing')
    result = run(*tiny, '--mode', 'finetune', '--peak-tflops=1')
    assert [row['name'] for row in result['tables'][0]['rows']] == [
        'VisionTransformer'
    ]
    assert 'needs Missing, which is not registered' in capsys.readouterr().err
    with pytest.raises(UsageError, match="'fused' needs Missing"):
        run(*tiny, '--mode', 'finetune', '--contenders', 'stock', 'fused')


def test_files_are_not_overwritten(tiny, tmp_path, capsys):
    file = tmp_path / 'old'
    file.write_text('precious')
    argv = ['model', *tiny, '--contenders', 'pixel', '--peak-tflops=1']
    for flag in ('--json', '--markdown'):
        assert benchmark.main([*argv, f'{flag}={file}']) == 2
        error = capsys.readouterr().err
        assert error.startswith('error: ') and error.count('\n') == 1
        assert str(file) in error and '--overwrite' in error
        assert file.read_text() == 'precious'
    argv += [f'--out={file}', '--overwrite']
    assert benchmark.main(argv) == 0
    assert 'ours, pixel' in file.read_text()


def test_mistakes(tiny, monkeypatch):
    with pytest.raises(UsageError, match='does not divide evenly'):
        run(*tiny, '--img-size=33')
    with pytest.raises(UsageError, match="'official' needs --videomae"):
        run(*tiny, '--contenders', 'official')
    with pytest.raises(UsageError, match="None .* 'features'; .* stock"):
        run(*tiny, '--mode', 'features', '--contenders', 'pixel')
    for flag in ('--rounds', '--peak-tflops'):
        with pytest.raises(SystemExit):
            tool.parse_args([flag, '0'])
    monkeypatch.setenv('PATH', '')
    monkeypatch.delenv('CXX', raising=False)
    with pytest.raises(UsageError, match='needs a C.. compiler'):
        run(*tiny, '--compile')
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match='no device'):
            run(*tiny, '--device=cuda')
