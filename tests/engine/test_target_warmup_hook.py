# Copyright (c) MotionMAE contributors. All rights reserved.
"""The weight of a target grows."""

from types import SimpleNamespace

import pytest
import torch
from conftest import as_batch, tube_mask

from mmmotionmae.engine import TargetWarmupHook
from mmmotionmae.utils.errors import UsageError


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (dict(end=4), [0, 0.25, 0.5, 0.75, 1, 1]),
        (dict(begin=2, end=4, start_factor=0.5), [0.5, 0.5, 0.5, 0.75, 1, 1]),
    ],
)
def test_losses_at_each_iteration(tiny_model, arguments, expected):
    """In any order, as after a resumption."""
    model = tiny_model(targets=dict(pixel={}, motion=dict(weight=2.0)))
    frames = torch.randint(256, (2, 3, 8, 32, 32), dtype=torch.uint8)
    batch = as_batch(frames, tube_mask())
    data = model.data_preprocessor(batch, training=True)
    plain = model(**data, mode='loss')
    hook = TargetWarmupHook(target='motion', **arguments)
    runner = SimpleNamespace(model=model)
    hook.before_train(runner)
    for iteration in (3, 0, 5, 1, 4, 2):
        runner.iter = iteration
        hook.before_train_iter(runner, 0)
        losses = model(**data, mode='loss')
        share = expected[iteration]
        torch.testing.assert_close(
            losses['loss_motion'], share * plain['loss_motion']
        )
        assert torch.equal(losses['loss_pixel'], plain['loss_pixel'])
    assert model.targets['motion'].weight == 2


def test_balanced_weights_grow_as_well(tiny_model):
    model = tiny_model(head=dict(balance=dict()))
    frames = torch.randint(256, (2, 3, 8, 32, 32), dtype=torch.uint8)
    batch = as_batch(frames, tube_mask())
    data = model.data_preprocessor(batch, training=True)
    hook = TargetWarmupHook(target='motion', end=4)
    runner = SimpleNamespace(model=model, iter=0)
    hook.before_train_iter(runner, 0)
    losses = model(**data, mode='loss')
    assert losses['weight_motion'] == 0 == losses['loss_motion']
    torch.testing.assert_close(losses['weight_pixel'], torch.tensor(1.0))
    runner.iter = 1
    hook.before_train_iter(runner, 1)
    losses = model(**data, mode='loss')
    pixel, motion = model.head.balance.norms
    torch.testing.assert_close(
        losses['weight_motion'] * motion,
        0.25 * losses['weight_pixel'] * pixel,
    )


def test_mistakes(tiny_model):
    with pytest.raises(UsageError, match=r"'flow', but those .* 'motion'\]"):
        TargetWarmupHook(target='flow', end=1).before_train(
            SimpleNamespace(model=tiny_model())
        )
    for wrong in (
        dict(end=0),
        dict(begin=5, end=5),
        dict(begin=-1, end=5),
        dict(end=1, start_factor=1.5),
    ):
        with pytest.raises(UsageError, match='TargetWarmupHook goes from'):
            TargetWarmupHook(target='motion', **wrong)
