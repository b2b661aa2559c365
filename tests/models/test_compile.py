# Copyright (c) MotionMAE contributors. All rights reserved.
"""``torch.compile``: one graph for a whole model, and the same numbers."""

import copy
import os
import shutil

import pytest
import torch
import torch._dynamo
from conftest import as_batch, tube_mask
from helpers.exported_models import encoder, recognizer
from mmengine.runner import Runner
from torch._dynamo.utils import counters

from mmmotionmae.models.utils.tubelet import split_mask

CXX = os.environ.get('CXX', 'g++')


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def classify(model):
    """What `Recognizer3D(mode='tensor')` gives, with the head."""
    return lambda clips: model(clips[:, None], stage='head', mode='tensor')[0]


def values_and_gradients(model, function, *inputs):
    model.zero_grad()
    output = function(*inputs)
    output.square().mean().backward()
    return [output.detach()] + [
        p.grad for p in model.parameters() if p.grad is not None
    ]


def assert_same(actual, expected, tolerance=1e-4):
    """Within a share of the largest value."""
    assert len(actual) == len(expected) > 1
    for a, e in zip(actual, expected, strict=True):
        limit = tolerance * e.abs().max().item()
        torch.testing.assert_close(a, e, rtol=0, atol=limit)


@pytest.mark.parametrize(
    'backbone', ['FusedVisionTransformer', 'MotionMAEViT']
)
def test_encoder_is_one_graph(backbone):
    model = encoder(backbone, depth=1)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    clips = torch.randn(2, 3, 8, 32, 32)
    assert_same(
        values_and_gradients(model, compiled, clips),
        values_and_gradients(model, model, clips),
    )
    # In inference there are other graphs, and another batch is another shape.
    compiled = torch.compile(model.eval(), fullgraph=True, backend='eager')
    with torch.no_grad():
        for size in (2, 3):
            clips = torch.randn(size, 3, 8, 32, 32)
            torch.testing.assert_close(compiled(clips), model(clips))


def test_masked_encoder_is_one_graph():
    """With a mask as tokens sorted beforehand, as in pre-training."""
    model = encoder('MotionMAEViT', depth=1)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    inputs = torch.randn(2, 3, 8, 32, 32), split_mask(tube_mask())
    assert_same(
        values_and_gradients(model, compiled, *inputs),
        values_and_gradients(model, model, *inputs),
    )


@pytest.mark.parametrize(
    'backbone',
    [
        pytest.param('VisionTransformer', marks=pytest.mark.slow),
        'FusedVisionTransformer',
    ],
)
def test_classifier_is_one_graph(backbone):
    model = recognizer(backbone, depth=1)
    function = classify(model)
    compiled = torch.compile(function, fullgraph=True, backend='aot_eager')
    clips = torch.randn(2, 3, 8, 32, 32)
    assert_same(
        values_and_gradients(model, compiled, clips),
        values_and_gradients(model, function, clips),
    )


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(CXX) is None, reason=f'there is no C++ compiler ({CXX})'
)
@pytest.mark.parametrize('name', ['classifier', 'encoder'])
def test_compiled_code(name):
    """Not only the graphs: what PyTorch's compiler makes of them."""
    if name == 'classifier':
        model = recognizer('FusedVisionTransformer', depth=1)
        function = classify(model)
    else:
        model = function = encoder('MotionMAEViT', depth=1)
    compiled = torch.compile(function, fullgraph=True)
    clips = torch.randn(2, 3, 8, 32, 32)
    assert_same(
        values_and_gradients(model, compiled, clips),
        values_and_gradients(model, function, clips),
    )


def train(model, work_dir, compile, labels):
    """Two steps with plain SGD, from the weights that the model has."""
    model.is_init = True
    frames = torch.randint(
        256,
        (4, 3, 8, 32, 32),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )
    masks = tube_mask(4, generator=torch.Generator().manual_seed(1))
    batch = as_batch(frames, None if labels else masks)
    if labels:
        for label, sample in enumerate(batch['data_samples']):
            sample.set_gt_label(label)
    dataset = [
        dict(inputs=clip, data_samples=sample)
        for clip, sample in zip(*batch.values(), strict=True)
    ]
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=dataset,
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_scope='mmaction',
        experiment_name=f'{work_dir.name}-{compile is None}-{labels}',
        cfg=dict(compile=compile),
    )
    runner.train()
    return [p.detach() for p in model.parameters()]


@pytest.mark.slow
@pytest.mark.parametrize('labels', [True, False])
def test_mmengine_compiles_the_training_step(tmp_path, tiny_model, labels):
    """``compile = dict(...)`` in a config; True takes the default back end."""
    model = (
        recognizer('FusedVisionTransformer', depth=1)
        if labels
        else tiny_model()
    )
    before = [p.clone() for p in model.parameters()]
    other = copy.deepcopy(model)
    expected = train(model, tmp_path, None, labels)
    assert not counters['stats']['unique_graphs']
    compiled = train(other, tmp_path, dict(backend='aot_eager'), labels)
    assert counters['stats']['unique_graphs'] > 0
    changes = [
        (a - b).abs().max() for a, b in zip(before, expected, strict=True)
    ]
    assert max(changes) > 1e-3
    assert_same(compiled, expected, tolerance=1e-5)
