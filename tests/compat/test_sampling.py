# Copyright (c) MotionMAE contributors. All rights reserved.
"""Orders of samples, beside those of `torch.randperm` and of lists."""

import itertools
import math

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler

from mmmotionmae.engine.samplers import SeededSampler
from mmmotionmae.utils import permutations
from mmmotionmae.utils.permutations import permutation


@pytest.mark.parametrize(
    'size', [0, 1, 2, 4095, 4096, 4097, 2**16 - 1, 2**16, 2**16 + 5, 300_007]
)
@pytest.mark.parametrize('seed', [0, 7])
def test_permutations_are_those_of_pytorch(size, seed):
    ours, theirs = torch.Generator(), torch.Generator()
    ours.manual_seed(seed)
    theirs.manual_seed(seed)
    for _ in range(2):  # the second begins where the first has ended
        parts = [np.empty(0, int), *permutation(size, ours)]
        expected = torch.randperm(size, generator=theirs)
        assert np.array_equal(np.concatenate(parts), expected.numpy())
        assert torch.equal(ours.get_state(), theirs.get_state())


def test_the_first_part_is_there_before_the_rest(monkeypatch):
    generator = torch.Generator()
    generator.manual_seed(3)
    expected = torch.randperm(10**5, generator=generator)[:4096]
    permutations._is_known()
    generator.manual_seed(3)
    monkeypatch.setattr(torch, 'randperm', lambda *_, **__: pytest.fail('all'))
    assert np.array_equal(next(permutation(10**5, generator)), expected)


def test_another_shuffle_of_pytorch(monkeypatch):
    """Its own order is then given all the same."""
    monkeypatch.setattr(permutations, '_is_known', lambda: False)
    ours, theirs = torch.Generator(), torch.Generator()
    found = np.concatenate(list(permutation(10**5, ours)))
    expected = torch.randperm(10**5, generator=theirs)
    assert np.array_equal(found, expected.numpy())


def indices(size, rank, world_size, shuffle, round_up, seed):
    """As MMEngine's sampler is documented, with lists."""
    total = math.ceil(size / world_size) * world_size if round_up else size
    order = list(range(size))
    if shuffle:
        generator = torch.Generator()
        generator.manual_seed(seed)
        order = torch.randperm(size, generator=generator).tolist()
    while len(order) < total:
        order += order
    return order[:total][rank::world_size]


@pytest.mark.parametrize('size', [1, 3, 10, 4100])
@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('round_up', [True, False])
@pytest.mark.parametrize('sampler_type', [DefaultSampler, SeededSampler])
def test_samples_of_all_processes(
    monkeypatch, size, shuffle, round_up, sampler_type
):
    for world_size in (1, 3):
        for rank in range(world_size):
            if not round_up and rank >= size:
                continue
            monkeypatch.setattr(
                'mmengine.dataset.sampler.get_dist_info',
                lambda r=rank, w=world_size: (r, w),
            )
            sampler = sampler_type(
                range(size), shuffle, seed=5, round_up=round_up
            )
            sampler.set_epoch(2)
            found = list(sampler)
            expected = indices(size, rank, world_size, shuffle, round_up, 7)
            assert found == expected and len(found) == len(sampler)
            assert all(isinstance(x, int) for x in found)


@pytest.mark.parametrize('shuffle', [True, False])
def test_samples_without_end(shuffle):
    sampler = InfiniteSampler(range(5), shuffle, seed=5)
    generator = torch.Generator()
    generator.manual_seed(5)
    expected = []
    for _ in range(3):
        order = torch.randperm(5, generator=generator).tolist()
        expected += order if shuffle else range(5)
    assert list(itertools.islice(sampler, 15)) == expected
