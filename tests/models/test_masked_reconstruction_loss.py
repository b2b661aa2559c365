# Copyright (c) MotionMAE contributors. All rights reserved.
import pytest
import torch
from mmaction.registry import MODELS


def build(**kwargs):
    return MODELS.build(dict(type='MaskedReconstructionLoss', **kwargs))


def error_of(criterion, difference):
    distance = abs(difference)
    if criterion == 'L2':
        return distance**2
    if criterion == 'L1':
        return distance
    return 0.5 * distance**2 if distance < 1 else distance - 0.5


@pytest.mark.parametrize('criterion', ['L2', 'L1', 'smooth_L1'])
@pytest.mark.parametrize('loss_weight', [1.0, 2.5])
def test_equals_loops(criterion, loss_weight):
    pred, target = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    distance = (pred - target).abs()
    assert distance.min() < 1 < distance.max()  # both pieces of smooth L1
    total = 0.0
    for b in range(2):
        for m in range(3):
            for k in range(7):
                difference = (pred[b, m, k] - target[b, m, k]).item()
                total += error_of(criterion, difference)
    loss = build(criterion=criterion, loss_weight=loss_weight)
    assert loss(pred, target).item() == pytest.approx(
        loss_weight * total / 42, rel=1e-5
    )


def test_the_default_is_the_mean_squared_error():
    pred, target = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    expected = ((pred - target) ** 2).mean()
    torch.testing.assert_close(build()(pred, target), expected)


@pytest.mark.parametrize('criterion', ['L2', 'L1', 'smooth_L1'])
@pytest.mark.parametrize('autocast', [False, True])
def test_float32_whatever_the_precision_of_the_model(criterion, autocast):
    """Errors of 1/512 would vanish next to 1 in bfloat16."""
    loss = build(criterion=criterion)
    target = 1 + torch.arange(1, 9).view(1, 2, 4) / 512
    pred = torch.ones(1, 2, 4, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        value = loss(pred, target)
    assert value.dtype == torch.float32
    expected = sum(error_of(criterion, i / 512) for i in range(1, 9)) / 8
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert pred.grad.dtype == torch.bfloat16 and (pred.grad < 0).all()


def test_error():
    with pytest.raises(ValueError, match="not 'mse'"):
        build(criterion='mse')
