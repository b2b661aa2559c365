# Copyright (c) MotionMAE contributors. All rights reserved.
"""Losses whose gradients are made equally large."""

import copy
import math

import pytest
import torch
from conftest import as_batch, tube_mask
from mmengine.runner import load_checkpoint
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmmotionmae.checkpoints import read_checkpoint
from mmmotionmae.engine import CompileBlocksHook
from mmmotionmae.models.losses import GradientBalance, gradient_balance
from mmmotionmae.utils.errors import UsageError

SLOPES = dict(a=3.0, b=0.01)  # of two losses, linear in the latent


def linear_losses(latent, slopes=SLOPES):
    """The gradient of each has a norm of slope * sqrt(numel)."""
    return {k: slope * latent.float().sum() for k, slope in slopes.items()}


def balance_of(**kwargs):
    return GradientBalance(names=[*SLOPES], **kwargs)


@pytest.mark.parametrize(
    'weights', [dict(a=1.0, b=1.0), dict(a=0.5, b=2.0), dict(a=1.0, b=0.0)]
)
def test_factors_in_closed_form(weights):
    latent = torch.randn(4, 25, requires_grad=True)
    losses = linear_losses(latent)
    balance = balance_of()
    factors = balance(losses, weights, latent)
    torch.testing.assert_close(balance.norms, torch.tensor([30.0, 0.1]))
    before = {k: weights[k] * SLOPES[k] * 10 for k in SLOPES}
    after = {}
    for name, loss in losses.items():
        assert not factors[name].requires_grad
        weighted = factors[name] * loss
        (gradient,) = torch.autograd.grad(weighted, latent, retain_graph=True)
        after[name] = gradient.norm().item()
    total = sum(before.values())
    for name, norm in after.items():
        share = weights[name] / sum(weights.values())
        assert norm == pytest.approx(total * share, rel=1e-5)


def test_norms_are_averaged():
    balance = balance_of(momentum=0.75)
    weights = dict(a=1.0, b=1.0)
    for slope, expected in (2.0, 2.0), (6.0, 3.0), (3.0, 3.0), (7.0, 4.0):
        latent = torch.ones(1, requires_grad=True)
        losses = linear_losses(latent, dict(a=slope, b=1.0))
        factors = balance(losses, weights, latent)
        assert balance.norms.tolist() == pytest.approx([expected, 1])
        assert factors['b'].item() == pytest.approx((expected + 1) / 2)
    copied = balance_of()
    copied.load_state_dict(balance.state_dict())
    assert copied.norms.tolist() == pytest.approx([4, 1])


@pytest.mark.parametrize('bad', [0.0, math.inf, math.nan])
def test_gradients_that_tell_nothing_are_passed_over(bad):
    balance = balance_of(momentum=0.5)
    weights = dict(a=1.0, b=3.0)

    def step(slope):
        latent = torch.ones(1, requires_grad=True)
        losses = linear_losses(latent, dict(a=slope, b=1.0))
        factors = balance(losses, weights, latent)
        return [factors[name].item() for name in 'ab']

    # Not yet measured: the weights alone.
    assert step(bad) == [1.0, 3.0]
    first = step(2.0)
    assert first == pytest.approx([5 / 4 / 2, 3 * 5 / 4])
    assert step(bad) == pytest.approx(first)


def test_nothing_is_measured_in_validation():
    balance = balance_of()
    latent = torch.ones(2, requires_grad=True)
    balance(linear_losses(latent), dict(a=1.0, b=1.0), latent)
    known = balance.norms.clone()
    balance.eval()
    other = linear_losses(latent, dict(a=9.0, b=9.0))
    factors = balance(other, dict(a=1.0, b=1.0), latent)
    assert torch.equal(balance.norms, known)
    expected = known.mean() / known
    torch.testing.assert_close(torch.stack([*factors.values()]), expected)
    fixed = torch.ones(2)
    balance.train()(linear_losses(fixed), dict(a=1.0, b=1.0), fixed)
    assert torch.equal(balance.norms, known)


def test_no_weight_at_all_is_no_nan():
    balance = balance_of()
    latent = torch.ones(2, requires_grad=True)
    factors = balance(linear_losses(latent), dict(a=0.0, b=0.0), latent)
    assert [f.item() for f in factors.values()] == [0, 0]


def test_small_gradients_of_half_precision():
    """1e-9 would be 0."""
    latent = torch.ones(100, dtype=torch.float16, requires_grad=True)
    losses = linear_losses(latent, dict(a=1e-9, b=1e-8))
    balance = balance_of()
    balance(losses, dict(a=1.0, b=1.0), latent)
    assert balance.norms.tolist() == pytest.approx([1e-8, 1e-7], rel=5e-3)


def test_norms_are_those_of_the_whole_batch(monkeypatch):
    """Another process has a part of it, with other gradients."""
    mine = torch.tensor([2.0, 1.0])
    theirs = torch.tensor([6.0, 3.0])

    def all_reduce(squares, op):
        assert op == 'mean'
        ratio = (theirs / mine).square()
        squares.copy_(squares * (1 + ratio) / 2)

    monkeypatch.setattr(gradient_balance, 'all_reduce', all_reduce)
    latent = torch.ones(1, requires_grad=True)
    losses = linear_losses(latent, dict(a=2.0, b=1.0))
    balance = balance_of()
    balance(losses, dict(a=1.0, b=1.0), latent)
    expected = ((mine**2 + theirs**2) / 2).sqrt()
    torch.testing.assert_close(balance.norms, expected)


@pytest.mark.parametrize('momentum', [-0.1, 1.0])
def test_momentum_is_below_one(momentum):
    with pytest.raises(UsageError, match='momentum of GradientBalance'):
        balance_of(momentum=momentum)


def prepare(model, size=2):
    frames = torch.randint(256, (size, 3, 8, 32, 32), dtype=torch.uint8)
    return model.data_preprocessor(as_batch(frames, tube_mask(size)), True)


def gradient_norms(model, data):
    """Of the losses as they are logged, at the latent."""
    latents = []
    hook = model.backbone.register_forward_hook(
        lambda module, args, output: latents.append(output)
    )
    losses = model(**data, mode='loss')
    hook.remove()
    return {
        name: torch.autograd.grad(
            losses[f'loss_{name}'], latents[0], retain_graph=True
        )[0].norm()
        for name in model.targets
    }, losses


PARTS = [
    dict(),
    dict(neck=dict(sharing='independent')),
    dict(neck=dict(attention='cross')),
    dict(neck=dict(with_cp=True)),
]


@pytest.mark.parametrize('parts', PARTS)
def test_losses_of_a_model_pull_equally_hard(tiny_model, parts):
    """By default they do not; and the sum of the norms stays."""
    parts = copy.deepcopy(parts)
    targets = dict(pixel=dict(norm='none'), motion=dict(weight=0.5))
    plain = tiny_model(targets=targets, **parts)
    model = tiny_model(targets=targets, head=dict(balance=dict()), **parts)
    missing = model.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys == ['head.balance.norms']
    data = prepare(model)
    before, losses = gradient_norms(plain, data)
    assert list(losses) == [
        *('loss_pixel', 'loss_motion'),
        *('r2_pixel', 'r2_motion', 'r2_motion_moving'),
    ]
    assert not 0.4 < before['motion'] / before['pixel'] < 0.6
    after, losses = gradient_norms(model, data)
    assert {'weight_pixel', 'weight_motion'} < set(losses)
    total = before['motion'] + before['pixel']
    torch.testing.assert_close(after['pixel'], total * 2 / 3)
    torch.testing.assert_close(after['motion'], total / 3)
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(
        total, losses['loss_pixel'] + losses['loss_motion']
    )
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_measuring_leaves_no_gradient_behind(tiny_model):
    """That of a step is the one of the weighted losses alone."""
    model = tiny_model(head=dict(balance=dict(momentum=0.0)))
    plain = tiny_model()
    plain.load_state_dict(model.state_dict(), strict=False)
    data = prepare(model)
    losses = model(**data, mode='loss')
    (losses['loss_pixel'] + losses['loss_motion']).backward()
    other = plain(**data, mode='loss')
    weights = {n: losses[f'weight_{n}'] for n in ('pixel', 'motion')}
    sum(w * other[f'loss_{n}'] for n, w in weights.items()).backward()
    for one, two in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


class Waits(TorchDispatchMode):
    """Notes the operations that make the host wait."""

    found = ()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ('_local_scalar_dense', 'nonzero', 'masked_select'):
            self.found = (*self.found, name)
        return func(*args, **(kwargs or {}))


def test_the_host_does_not_wait(tiny_model):
    model = tiny_model(head=dict(balance=dict(), motion_norm='tubelet-floor'))
    data = prepare(model)
    with Waits() as waits:
        model(**data, mode='loss')
    assert waits.found == ()


def test_mixed_precision(tiny_model):
    model = tiny_model(head=dict(balance=dict()))
    data = prepare(model)
    model(**data, mode='loss')
    expected = model.head.balance.norms.clone()
    model.head.balance.norms.zero_()
    with torch.autocast('cpu', torch.bfloat16):
        model(**data, mode='loss')
    torch.testing.assert_close(
        model.head.balance.norms, expected, rtol=0.05, atol=0
    )


def test_compiled_blocks(tiny_model):
    """Their buffers are kept for more than one backward pass."""
    from torch._functorch import config

    model = tiny_model(head=dict(balance=dict()))
    data = prepare(model)
    model(**data, mode='loss')
    expected = model.head.balance.norms.clone()
    model.head.balance.norms.zero_()

    class Runner:
        logger = nn.Module()

    runner = Runner()
    runner.model = model
    runner.logger.info = print
    with (
        config.patch(donated_buffer=True),
        torch._dynamo.config.patch(optimize_ddp=True),
    ):
        CompileBlocksHook(backend='aot_eager').before_train(runner)
        assert not config.donated_buffer
        losses = model(**data, mode='loss')
        (losses['loss_pixel'] + losses['loss_motion']).backward()
    torch._dynamo.reset()
    torch.testing.assert_close(model.head.balance.norms, expected)


def test_checkpoints_of_a_balanced_training(tiny_model, tmp_path):
    """Its averages are no weights: others need not have them."""
    balanced = tiny_model(head=dict(balance=dict(type='GradientBalance')))
    balanced.head.balance.norms.fill_(2.0)
    path = tmp_path / 'balanced.pth'
    torch.save(dict(state_dict=balanced.state_dict(), meta={}), path)
    checkpoint = read_checkpoint(
        path, num_heads=2, decoder_num_heads=2, trained_img_size=32
    )
    assert not [n for n in checkpoint.tensors if 'balance' in n]

    plain = tiny_model()
    load_checkpoint(plain, str(path), 'cpu')
    weights = plain.state_dict()
    assert weights.keys() < balanced.state_dict().keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, balanced.state_dict()[name])

    path = tmp_path / 'plain.pth'
    torch.save(dict(state_dict=weights, meta={}), path)
    load_checkpoint(balanced, str(path), 'cpu')
    assert balanced.head.balance.norms.tolist() == [2.0, 2.0]
