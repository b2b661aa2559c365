# Copyright (c) MotionMAE contributors. All rights reserved.
"""NaN and infinity are found wherever they are."""

import math

import pytest
import torch

from mmmotionmae.utils.finite import find_not_finite


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float64, torch.half, torch.bfloat16]
)
@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('place', [0, 500, 999])
def test_one_value_is_enough(dtype, value, place):
    bad = torch.randn(1000).to(dtype)
    tensors = dict(good=bad.clone(), bad=bad, also=torch.zeros(3))
    bad[place] = value
    assert find_not_finite(tensors) == ['bad']
    expected = ['bad'] if math.isnan(value) else []
    assert find_not_finite(tensors, may_be_infinite=['bad']) == expected


def test_large_values_are_finite():
    largest = torch.full((1000,), torch.finfo(torch.float32).max)
    assert find_not_finite(dict(up=largest, down=-largest)) == []
    double = torch.tensor([1e300, -1e300], dtype=torch.float64)
    assert find_not_finite(dict(double=double)) == []


def test_what_is_no_number_is_passed_over():
    tensors = dict(
        count=torch.tensor(3),
        flags=torch.tensor([True]),
        text='nan',
        none=None,
        empty=torch.empty(0),
        scalar=torch.tensor(math.nan),
        meta=torch.empty(3, device='meta'),
    )
    assert find_not_finite(tensors) == ['scalar']
    assert find_not_finite({}) == []


def test_views_and_parameters_are_read_as_they_are():
    table = torch.zeros(6, 6)
    table[0, 5] = math.nan
    tensors = dict(
        clean=table[1:, :5].t(),
        view=table[:, ::5],
        parameter=torch.nn.Parameter(table),
    )
    assert find_not_finite(tensors) == ['view', 'parameter']
