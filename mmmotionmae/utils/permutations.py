# Copyright (c) MotionMAE contributors. All rights reserved.
"""Random orders of many numbers, of which the first are there at once."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

Numbers = npt.NDArray[np.signedinteger]

_PART = 4096
_SMALL = 2**16  # below, the whole order takes a millisecond
_LARGE = (2**32 - 1) // 20  # from there on, PyTorch shuffles differently


def permutation(size: int, generator: torch.Generator) -> Iterator[Numbers]:
    """Random order of the numbers from 0 on, part by part.

    The order is that of ``torch.randperm(size, generator=generator)``, and so
    is the state that it leaves the generator in. The shuffle of ten million
    numbers takes from a quarter of a second to seconds; it begins only when
    the first part has been used, by which time loaders are busy with that.

    Args:
        size: How many there are.
        generator: Of the CPU; not to be used before the end.

    Yields:
        The next numbers, at most 4096, int32 or int64.
    """
    given = 0
    if _SMALL <= size < _LARGE and _is_known():
        first = _first(size, generator)
        given = len(first)
        yield first
    dtype = torch.int32 if size < 2**31 else torch.int64
    order = torch.randperm(size, generator=generator, dtype=dtype).numpy()
    for start in range(given, size, _PART):
        yield order[start : start + _PART]


def _first(size: int, generator: torch.Generator) -> Numbers:
    """The first numbers of a permutation; the generator stays as it is.

    Fisher and Yates's shuffle exchanges a place with a random one that does
    not come before it. What has been drawn for a place does not change any
    more.
    """
    ahead = torch.Generator()
    ahead.set_state(generator.get_state())
    # Pairs of words of 32 bits, of which PyTorch takes one for each place,
    # modulo the number of places from there on.
    pairs = torch.empty(_PART // 2, dtype=torch.int64)
    pairs.random_(-(2**63), None, generator=ahead)
    words = pairs.numpy().view(np.uint64)
    halves = np.stack([words >> np.uint64(32), words & np.uint64(2**32 - 1)])
    draws = halves.T.reshape(-1).astype(np.int64)
    places = np.arange(_PART)
    others = (places + draws % (size - places)).tolist()
    moved: dict[int, int] = {}  # what stands where it did not at first
    numbers = []
    for place, other in enumerate(others):
        own = moved.pop(place, place)
        numbers.append(own if other == place else moved.get(other, other))
        if other != place:
            moved[other] = own
    return np.array(numbers)


@cache
def _is_known() -> bool:
    """Tell whether this PyTorch shuffles in the way known here."""
    generator = torch.Generator()
    generator.manual_seed(1)
    first = _first(2 * _PART, generator)
    order = torch.randperm(2 * _PART, generator=generator).numpy()
    return bool((first == order[:_PART]).all())
