# Copyright (c) MotionMAE contributors. All rights reserved.
"""Blocks are compiled in place, and nothing but their speed changes."""

import copy
import importlib.util
import uuid
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch._dynamo
import torch.distributed as dist
from conftest import as_batch, tube_mask
from mmaction.registry import HOOKS, MODELS
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.utils import digit_version
from torch import nn
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.utils import counters

from mmmotionmae.engine import CompileBlocksHook
from mmmotionmae.engine.hooks.compile_blocks_hook import find_blocks

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'configs/demo'
PRETRAIN = DEMO / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'


# What it costs, not what comes out.
many_graphs = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.8'),
    reason='PyTorch 2.7 makes more graphs',
)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(optimize_ddp=True, cache_size_limit=8):
        yield
    torch._dynamo.reset()


class Graphs:
    """A back end that counts what it compiles."""

    def __init__(self, backend):
        self.backend, self.count = backend, 0

    def __call__(self, graph, inputs):
        self.count += 1
        return self.backend(graph, inputs)


@pytest.fixture
def graphs():
    """Captures the forward pass; quick."""
    return Graphs(lambda graph, inputs: graph)


@pytest.fixture
def aot_graphs():
    """Captures the backward pass, too."""
    return Graphs(aot_eager)


@contextmanager
def kinds_of_calls(model):
    """In how many different ways the blocks of a model are called."""
    calls = set()

    def see(block, args, kwargs):
        values = [*args, *(v for _, v in sorted(kwargs.items()))]
        calls.add(
            (
                type(block),
                *(getattr(v, 'shape', v) for v in values),
                *(p.shape for p in block.parameters()),
            )
        )

    handles = [
        block.register_forward_pre_hook(see, with_kwargs=True)
        for block in find_blocks(model, ['blocks'])
    ]
    yield calls
    for handle in handles:
        handle.remove()


def compile_blocks(model, stage='before_train', **kwargs):
    hook = CompileBlocksHook(**kwargs)
    logger = MMLogger.get_instance(uuid.uuid4().hex)
    getattr(hook, stage)(SimpleNamespace(model=model, logger=logger))
    return hook


def inputs_of(model, batch_size=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(
        0, 256, (batch_size, 3, 8, 32, 32), generator=generator
    )
    batch = as_batch(
        frames.to(torch.uint8), tube_mask(batch_size, generator=generator)
    )
    return model.data_preprocessor(batch)


def losses_and_gradients(model, data):
    model.zero_grad()
    losses = model(**data, mode='loss')
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    values = {k: v.detach() for k, v in losses.items()}
    return values | {
        k: p.grad.clone()
        for k, p in model.named_parameters()
        if p.grad is not None
    }


def assert_close(actual, expected, tolerance=1e-6):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            actual[name], value, rtol=tolerance, atol=tolerance, msg=name
        )


# ------------------------------------------------------------------ MotionMAE


def test_one_graph_for_all_blocks_of_a_shape(tiny_model, graphs):
    """Also for those of two decoders."""
    model = tiny_model(
        backbone=dict(depth=3), neck=dict(depth=3, sharing='independent')
    )
    eager = copy.deepcopy(model)
    keys = list(model.state_dict())
    compile_blocks(model, backend=graphs)
    assert list(model.state_dict()) == keys
    with kinds_of_calls(eager) as calls:
        # A batch of another size is another shape; those seen before are not.
        for batch_size, shapes in ((2, 1), (3, 2), (2, 2)):
            data = inputs_of(model, batch_size, seed=shapes)
            assert_close(
                losses_and_gradients(model, data),
                losses_and_gradients(eager, data),
            )
            # The encoder's, the decoder's, and perhaps the decoder's last.
            assert graphs.count == len(calls) in (2 * shapes, 3 * shapes)
    assert counters['stats']['unique_graphs'] == len(calls)
    assert not counters['graph_break']


@many_graphs
@pytest.mark.parametrize('with_cp', [False, True])
def test_gradients_of_compiled_blocks(tiny_model, aot_graphs, with_cp):
    model = tiny_model(
        backbone=dict(with_cp=with_cp), neck=dict(depth=2, with_cp=with_cp)
    )
    eager = copy.deepcopy(model)
    compile_blocks(model, backend=aot_graphs)
    with kinds_of_calls(eager) as calls:
        for seed in range(2):
            data = inputs_of(model, seed=seed)
            assert_close(
                losses_and_gradients(model, data),
                losses_and_gradients(eager, data),
            )
    assert aot_graphs.count == len(calls)
    assert not counters['graph_break']


def test_inference_has_graphs_of_its_own(tiny_model, graphs):
    model = tiny_model()
    eager = copy.deepcopy(model)
    compile_blocks(model, 'before_test', backend=graphs)
    data = inputs_of(model)
    for m in (model, eager):
        m.eval()
    with torch.no_grad(), kinds_of_calls(eager) as calls:
        for _ in range(2):
            one, other = (m(**data, mode='predict') for m in (model, eager))
            assert graphs.count == len(calls)
    for a, b in zip(one, other, strict=True):
        for name in ('pixel_reconstruction', 'motion_reconstruction'):
            torch.testing.assert_close(
                getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-6
            )
    model.train()
    losses_and_gradients(model, data)
    assert graphs.count == 2 * len(calls) and not counters['graph_break']


@many_graphs
def test_whole_model_is_one_graph(tiny_model, aot_graphs):
    """What MMEngine compiles beyond this is not ours."""
    model = tiny_model(backbone=dict(depth=1))
    eager = copy.deepcopy(model)
    data = inputs_of(model)
    expected = losses_and_gradients(eager, data)
    model.loss = torch.compile(
        model.loss, fullgraph=True, dynamic=False, backend=aot_graphs
    )
    assert_close(losses_and_gradients(model, data), expected)
    losses_and_gradients(model, inputs_of(model, seed=1))
    assert aot_graphs.count == 1 and not counters['graph_break']


def test_mixed_precision(tiny_model, graphs):
    model = tiny_model()
    eager = copy.deepcopy(model)
    compile_blocks(model, backend=graphs)
    data = inputs_of(model)
    with kinds_of_calls(eager) as calls:
        for _ in range(2):
            with torch.autocast('cpu', torch.bfloat16):
                actual = losses_and_gradients(model, data)
                expected = losses_and_gradients(eager, data)
            assert_close(actual, expected)
    assert graphs.count == len(calls)


# --------------------------------------------------------------- its options


def test_hook_is_registered():
    hook = HOOKS.build(
        dict(type='CompileBlocksHook', blocks='backbone.blocks', mode='x')
    )
    assert type(hook) is CompileBlocksHook
    assert hook.blocks == ('backbone.blocks',)
    assert hook.options == dict(
        fullgraph=True,
        dynamic=False,
        backend='inductor',
        mode='x',
        options=None,
    )


def test_only_the_blocks_that_are_named(tiny_model, graphs):
    model = tiny_model()
    compile_blocks(model, blocks=['backbone.blocks'], backend=graphs)
    losses_and_gradients(model, inputs_of(model))
    assert graphs.count == 1


def test_blocks_are_found_by_the_end_of_their_name(tiny_model):
    model = tiny_model(
        backbone=dict(depth=2), neck=dict(depth=1, sharing='independent')
    )
    encoder = [*model.backbone.blocks]
    pixel, motion = (
        [*model.neck.decoders[name].blocks] for name in ('pixel', 'motion')
    )
    wrapped = nn.ModuleDict(dict(module=model))  # as by DDP
    for m in (model, wrapped):
        assert find_blocks(m, ['blocks']) == encoder + pixel + motion
        assert find_blocks(m, ['backbone.blocks']) == encoder
        assert find_blocks(m, ['motion.blocks', 'blocks', 'blocks']) == (
            motion + encoder + pixel
        )
    assert find_blocks(model.backbone, ['blocks']) == encoder


@pytest.mark.parametrize('name', ['block', 'ocks', 'neck.blocks', 'backbone'])
def test_name_without_blocks_is_an_error(tiny_model, name):
    with pytest.raises(ValueError, match='no blocks') as error:
        compile_blocks(tiny_model(), blocks=['blocks', name])
    assert 'backbone.blocks' in str(error.value)


def test_one_model_is_compiled_once(tiny_model, graphs):
    model = tiny_model()
    hook = compile_blocks(model, 'before_train', backend=graphs)
    before = [b._compiled_call_impl for b in find_blocks(model, ['blocks'])]
    assert None not in before
    runner = SimpleNamespace(model=model)
    for stage in ('before_val', 'before_test', 'before_train'):
        getattr(hook, stage)(runner)
    after = [b._compiled_call_impl for b in find_blocks(model, ['blocks'])]
    assert all(a is b for a, b in zip(before, after, strict=True))


def test_block_that_does_not_fit_into_a_graph_is_an_error(graphs):
    class Waiting(nn.Linear):
        def forward(self, x):
            return super().forward(x) * x.sum().item()

    model = nn.Module()
    model.blocks = nn.ModuleList([Waiting(2, 2)])
    compile_blocks(model, backend=graphs, fullgraph=False)
    model.blocks[0](torch.ones(2))
    assert counters['graph_break']

    class Breaking(nn.Linear):
        def forward(self, x):
            torch._dynamo.graph_break()
            return super().forward(x)

    model.blocks = nn.ModuleList([Breaking(2, 2)])
    compile_blocks(model, backend=graphs)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        model.blocks[0](torch.ones(2))


@many_graphs
def test_more_graphs_than_the_compiler_allows_one_function(graphs):
    class Block(nn.Linear):
        def __init__(self, rate):
            super().__init__(2, 2)
            self.rate = rate

        def forward(self, x):
            return super().forward(x) * self.rate

    model = nn.Module()
    model.blocks = nn.ModuleList(Block(i / 16) for i in range(16))
    x = torch.ones(2)
    expected = [block(x) for block in model.blocks]
    compile_blocks(model, backend=graphs)
    for _ in range(2):
        actual = [block(x) for block in model.blocks]
        torch.testing.assert_close(actual, expected)
        assert graphs.count == 16


def test_classifier_of_mmaction2(graphs):
    """Stock blocks, each with a drop path rate of its own."""
    vit = MODELS.build(
        dict(
            type='VisionTransformer',
            img_size=16,
            patch_size=8,
            embed_dims=16,
            depth=3,
            num_heads=2,
            num_frames=4,
            drop_path_rate=0.5,
        )
    )
    eager = copy.deepcopy(vit)
    compile_blocks(vit, backend=graphs)
    clips = torch.rand(4, 3, 4, 16, 16)
    results = []
    for model in (vit, eager, vit):
        torch.manual_seed(0)
        results.append(model(clips))
    assert graphs.count == 3
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-6)
    assert torch.equal(results[0], results[2])


# ---------------------------------------------------------------- whole runs


@pytest.fixture
def process_group():
    dist.init_process_group(
        'gloo', store=dist.HashStore(), rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def test_blocks_stay_whole_under_ddp(tiny_model, graphs, process_group):
    model = tiny_model(backbone=dict(depth=3))
    eager = copy.deepcopy(model)
    # A block has many times the bytes of a bucket.
    wrapped = MMDistributedDataParallel(model, bucket_cap_mb=0.001)
    compile_blocks(wrapped, backend=graphs)
    data = inputs_of(model)
    with kinds_of_calls(eager) as calls:
        expected = losses_and_gradients(eager, data)
    losses = wrapped(**data, mode='loss')
    (losses['loss_pixel'] + losses['loss_motion']).backward()
    assert graphs.count == len(calls)
    actual = {k: p.grad for k, p in model.named_parameters()}
    assert_close(
        {k: v for k, v in actual.items() if v is not None},
        {k: v for k, v in expected.items() if k in actual},
    )


def load_train_tool():
    spec = importlib.util.spec_from_file_location(
        'train_tool', ROOT / 'tools/train.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRAIN = load_train_tool()


class Recorder(Hook):
    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.losses.append(outputs['loss'].item())


@pytest.fixture
def train(tmp_path, monkeypatch, shapes_dir):
    monkeypatch.setenv('DEMO_DATA', str(shapes_dir))
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(tmp_path)

    def run(work_dir, *flags, epochs, hooks=()):
        torch._dynamo.reset()
        recorder = Recorder()
        argv = [str(PRETRAIN), '--work-dir', work_dir, '--no-validate', *flags]
        argv += [
            '--cfg-options',
            f'experiment_name={uuid.uuid4().hex}',
            f'train_cfg.max_epochs={epochs}',
            'train_dataloader.batch_size=8',
            'default_hooks.checkpoint.interval=1',
            'param_scheduler.1.end=3',
            'model.backbone.depth=2',
            'model.neck.depth=1',
            'log_level=ERROR',
        ]
        hooks = [recorder, *hooks]
        runner = TRAIN.train(TRAIN.parse_args(argv), hooks)
        return runner, recorder.losses

    return run


def test_training_saving_and_resuming(train, graphs):
    _, eager = train('eager', epochs=2)
    whole, losses = train(
        'whole', epochs=2, hooks=[CompileBlocksHook(backend=graphs)]
    )
    # One each for encoder and decoder, in two epochs of four steps.
    assert graphs.count == 2
    assert losses == pytest.approx(eager, rel=1e-5)

    # Resumed with compiled blocks it is the same run, bit for bit.
    hook = CompileBlocksHook(backend='eager')
    _, rest = train(
        'resumed', '--resume', 'whole/epoch_1.pth', epochs=2, hooks=[hook]
    )
    assert losses[4:] == rest

    # And its checkpoints fit a model that is not compiled, in every way.
    checkpoint = torch.load('whole/epoch_2.pth', weights_only=True)
    plain = MODELS.build(whole.cfg.model)
    plain.load_state_dict(checkpoint['state_dict'], strict=True)
    data = inputs_of(plain)
    for model in (plain, whole.model):
        model.eval()
    with torch.no_grad():
        assert_close(
            plain(**data, mode='loss'), whole.model(**data, mode='loss')
        )
    _, rest = train('whole', '--resume', epochs=3)
    assert len(rest) == 4 and rest[-1] < losses[0]
