# Copyright (c) MotionMAE contributors. All rights reserved.
import pytest
import torch
import torch.nn.functional as F
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from mmmotionmae.models.utils import linear as linear_module
from mmmotionmae.models.utils.linear import Linear, gelu_linear, linear

NEEDS_ONEDNN = pytest.mark.skipif(
    linear_module._onednn_linear is None,
    reason='PyTorch was built without oneDNN',
)


def plain_gelu_linear(x, weight, bias):
    return F.linear(F.gelu(x), weight, bias)


PAIRS = [(linear, F.linear), (gelu_linear, plain_gelu_linear)]


def arguments(shape=(2, 70), inputs=96, outputs=64, with_bias=True):
    return [
        torch.randn(*shape, inputs, requires_grad=True),
        torch.randn(outputs, inputs, requires_grad=True),
        torch.randn(outputs, requires_grad=True) if with_bias else None,
    ]


def value_and_gradients(function, args):
    value = function(*args)
    weights = torch.linspace(-1, 1, value.numel(), dtype=value.dtype)
    loss = (value * weights.view_as(value)).float().sum()
    wanted = [arg for arg in args if arg is not None and arg.requires_grad]
    return [value, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize('shape', [(70,), (2, 70), (2, 3, 5)])
@pytest.mark.parametrize(('ours', 'plain'), PAIRS)
def test_values_and_gradients_are_pytorchs(ours, plain, shape, with_bias):
    args = arguments(shape, with_bias=with_bias)
    for x, y in zip(
        value_and_gradients(ours, args),
        value_and_gradients(plain, args),
        strict=True,
    ):
        assert x.shape == y.shape
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('ours', 'plain'), PAIRS)
def test_strided_input(ours, plain):
    x, weight, bias = arguments((2, 70))
    for view in (x[:, 20:], x.detach().transpose(0, 1)):
        torch.testing.assert_close(
            ours(view, weight, bias),
            plain(view, weight, bias),
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize('frozen', [0, 1, 2])
@pytest.mark.parametrize(('ours', 'plain'), PAIRS)
def test_frozen_parts_get_no_gradient(ours, plain, frozen):
    args = arguments()
    args[frozen].requires_grad_(False)
    expected = value_and_gradients(plain, args)
    for x, y in zip(value_and_gradients(ours, args), expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('ours', 'plain'), PAIRS)
def test_under_autocast_as_pytorch(ours, plain):
    args = arguments()
    results = []
    for function in (ours, plain):
        with torch.autocast('cpu', torch.bfloat16):
            # What comes from the layer before is bfloat16 already.
            half = args[0].bfloat16()
            results.append(
                value_and_gradients(
                    lambda *rest, f=function, x=half: f(x, *rest), args[1:]
                )
            )
    for x, y in zip(*results, strict=True):
        assert x.dtype == y.dtype
        torch.testing.assert_close(x.float(), y.float(), rtol=0.02, atol=0.05)
    assert results[0][0].dtype == torch.bfloat16
    assert results[0][1].dtype == torch.float32


def operators(function, *args):
    with profile() as prof:
        function(*args)
    return {event.key for event in prof.key_averages()}


@NEEDS_ONEDNN
def test_what_goes_to_onednn():
    args = arguments()
    name = 'mkldnn::_linear_pointwise'
    assert name in operators(value_and_gradients, linear, args)
    assert name in operators(value_and_gradients, gelu_linear, args)
    module = Linear(96, 64)
    assert name in operators(module, args[0])
    double = [arg.double() for arg in args]
    assert name not in operators(linear, *double)
    with torch.autocast('cpu', torch.bfloat16):
        assert name not in operators(linear, *args)


@NEEDS_ONEDNN
def test_an_exported_model_does_not_depend_on_onednn():
    module = torch.nn.Sequential(Linear(6, 4), Linear(4, 2))
    x = torch.randn(3, 6)
    exported = torch.export.export(module, (x,))
    targets = {str(node.target) for node in exported.graph.nodes}
    assert 'aten.linear.default' in targets
    torch.testing.assert_close(exported.module()(x), module(x))
    traced = torch.jit.trace(module, x)
    assert 'mkldnn' not in str(traced.inlined_graph)


def test_without_onednn(monkeypatch):
    monkeypatch.setattr(linear_module, '_onednn_linear', None)
    args = arguments()
    assert torch.equal(linear(*args), F.linear(*args))
    for x, y in zip(
        value_and_gradients(gelu_linear, args),
        value_and_gradients(plain_gelu_linear, args),
        strict=True,
    ):
        torch.testing.assert_close(x, y)


def test_an_empty_batch():
    x, weight, bias = arguments((0, 70))
    assert linear(x, weight, bias).shape == (0, 70, 64)


@pytest.mark.parametrize('function', [linear, gelu_linear])
def test_its_operations_are_counted(function):
    args = arguments((2, 70))
    with FlopCounterMode(display=False) as counter:
        value_and_gradients(function, args)
    assert counter.get_total_flops() == 3 * 2 * 2 * 70 * 96 * 64


def test_the_activation_is_not_kept():
    """Of a two-layer perceptron, only input and hidden layer are saved."""
    saved = {}

    def pack(tensor):
        saved[tensor.data_ptr()] = tensor.numel()
        return tensor

    x, weight, bias = arguments((2, 70), 32, 128)
    back = torch.randn(32, 128, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        gelu_linear(linear(x, weight, bias), back)
    weights = 2 * 32 * 128
    assert sum(saved.values()) == weights + 2 * 70 * (32 + 128)
