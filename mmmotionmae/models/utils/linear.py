# Copyright (c) MotionMAE contributors. All rights reserved.
"""Linear layers that are quick on a CPU and frugal on every device.

Shapes: B clips, N tokens, I and O channels of input and output.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

# The matrix product of oneDNN, which PyTorch's compiler uses, too. PyTorch's
# own float32 products go to MKL, which leaves AVX-512 unused on processors
# that are not Intel's. Missing where PyTorch is built without oneDNN.
_onednn_linear = (
    getattr(torch.ops.mkldnn, '_linear_pointwise', None)
    if torch.backends.mkldnn.is_available()
    else None
)


# An operator of our own, for PyTorch's compiler cannot compile that one in
# training. Without gradients: those are the matter of the functions below.
_library = torch.library.Library('mmmotionmae', 'FRAGMENT')
_library.define(
    'onednn_linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor'
)


@torch.library.impl(_library, 'onednn_linear', 'CPU')
def _compute(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert _onednn_linear is not None
    return _onednn_linear(x, weight, bias, 'none', [], '')


@torch.library.register_fake('mmmotionmae::onednn_linear', lib=_library)
def _describe(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.size(0)))


@register_flop_formula(torch.ops.mmmotionmae.onednn_linear)
def _count_flops(
    x: torch.Size, weight: torch.Size, *args: Any, **kwargs: Any
) -> int:
    return 2 * x.numel() * weight[0]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``; on a CPU in float32 by oneDNN.

    The results differ by rounding only.

    Args:
        x: (..., I).
        weight: (O, I).
        bias: (O, ), or None.

    Returns:
        (..., O).
    """
    if _suits_onednn(x, weight):
        return _OneDNNLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def gelu_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """``linear(gelu(x))`` that does not keep ``gelu(x)`` for the backward.

    It is computed anew there: little work, and a quarter of the activations
    of a transformer.

    Args:
        x: (..., I).
        weight: (O, I).
        bias: (O, ), or None.

    Returns:
        (..., O).
    """
    return _GELULinear.apply(x, weight, bias)


class Linear(nn.Linear):
    """``torch.nn.Linear`` that computes by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        return linear(x, self.weight, self.bias)


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        _onednn_linear is not None
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled('cpu')
        # An exported model must not depend on oneDNN.
        and not torch.jit.is_tracing()
        and not torch.compiler.is_exporting()
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if _suits_onednn(x, weight):
        return torch.ops.mmmotionmae.onednn_linear(x, weight, bias)
    return F.linear(x, weight, bias)


def _gradients(
    ctx: Any, grad: Tensor, x: Tensor, weight: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a linear layer by input, weight and bias."""
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad
    flat = grad.flatten(0, -2)
    return (
        _product(grad, weight.t()) if needs_x else None,
        _product(flat.t(), x.flatten(0, -2).t()) if needs_weight else None,
        flat.sum(0) if needs_bias else None,
    )


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, grad, *ctx.saved_tensors)


class _GELULinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        # What autocast would do; it is off in the backward.
        weight = weight.to(x.dtype)
        bias = None if bias is None else bias.to(x.dtype)
        ctx.save_for_backward(x, weight)
        return _product(F.gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = _gradients(
            ctx, grad, F.gelu(x), weight
        )
        if grad_x is not None:
            grad_x = torch.ops.aten.gelu_backward(grad_x, x)
        return grad_x, grad_weight, grad_bias
