# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
import torch
from helpers import naive_propagation as naive
from torch.utils._python_dispatch import TorchDispatchMode

from mmmotionmae.models.vos.affinity import Frame, Propagation

GRID = (7, 9)
DINO = dict(topk=5, temperature=0.1, radius=12, window='square')
CRW = dict(topk=7, temperature=0.7, radius=20, window='circle')


def draw(shape, seed=0):
    """Features of length 1, float64."""
    features = np.random.default_rng(seed).normal(size=shape)
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


def draw_exact(shape, seed=0):
    """Of length 1, cosines are multiples of 1/2: many ties, no rounding."""
    assert shape[-1] == 4
    signs = np.random.default_rng(seed).integers(0, 2, shape)
    return signs - 0.5


def problem(num_frames=4, grid=GRID, features=draw, width=8, channels=3):
    """Query and context, some frames local and some not; soft labels."""
    length = grid[0] * grid[1]
    query, *keys = features((num_frames + 1, length, width))
    labels = np.random.default_rng(1).uniform(
        size=(len(keys), length, channels)
    )
    labels /= labels.sum(-1, keepdims=True)
    local = [True] * len(keys)
    return query, list(zip(keys, labels, local, strict=True))


def free(context, *numbers):
    """The context, these frames being compared with everywhere."""
    return [
        (features, labels, local and number not in numbers)
        for number, (features, labels, local) in enumerate(context)
    ]


def ours(arguments, query, context, grid=GRID, dtype=torch.float32):
    frames = [
        Frame(
            torch.from_numpy(features).to(dtype),
            torch.from_numpy(labels).to(dtype),
            local,
        )
        for features, labels, local in context
    ]
    labels = Propagation(**arguments)(
        torch.from_numpy(query).to(dtype), frames, grid
    )
    assert labels.dtype == dtype
    return labels.numpy()


def expected(arguments, query, context, grid=GRID):
    arguments = dict(arguments)
    form = naive.dino if arguments.pop('keep_ties') else naive.crw
    arguments.pop('max_affinities', None)
    return form(query, context, grid[1], **arguments)


@pytest.mark.parametrize('radius', [None, 0.5, 1, 2.5, 3, 12])
@pytest.mark.parametrize('topk', [1, 5, 40, 1000])
def test_form_of_dino(topk, radius):
    query, context = problem()
    arguments = DINO | dict(topk=topk, radius=radius, keep_ties=True)
    np.testing.assert_allclose(
        ours(arguments, query, context),
        naive.dino(query, context, 9, topk, 0.1, radius),
        atol=2e-6,
    )


@pytest.mark.parametrize('radius', [None, 0.5, 1, 2.5, 3, 20])
@pytest.mark.parametrize('topk', [1, 7, 40, 1000])
def test_form_of_crw(topk, radius):
    """The first frame is free, and stands in for two that are not there."""
    query, context = problem(num_frames=2)
    first, second = context
    context = free([first, first, first, second], 0)
    arguments = CRW | dict(topk=topk, radius=radius, keep_ties=False)
    np.testing.assert_allclose(
        ours(arguments, query, context),
        naive.crw(query, context, 9, topk, 0.7, radius),
        atol=2e-6,
    )


@pytest.mark.parametrize('keep_ties', [True, False])
@pytest.mark.parametrize('window', ['square', 'circle'])
@pytest.mark.parametrize('freed', [(), (0, 1, 2, 3), (1, 2), (3,)])
def test_any_frames_may_be_free(freed, window, keep_ties):
    query, context = problem()
    context = free(context, *freed)
    arguments = dict(
        topk=6,
        temperature=0.3,
        radius=2,
        window=window,
        keep_ties=keep_ties,
    )
    result = ours(arguments, query, context)
    np.testing.assert_allclose(
        result, expected(arguments, query, context), atol=2e-6
    )
    # Labels that sum to 1 do so afterwards.
    np.testing.assert_allclose(result.sum(1), 1, atol=1e-6)


def test_a_few_hundred_problems():
    """Of all shapes; every third has ties."""
    rng = np.random.default_rng(0)
    for number in range(200):
        grid = tuple(int(n) for n in rng.integers(1, 6, 2))
        num_frames = int(rng.integers(1, 5))
        keep_ties = bool(rng.integers(2))
        tied = keep_ties and number % 3 == 0
        query, context = problem(
            num_frames,
            grid,
            (lambda shape: draw_exact(shape, number))  # noqa: B023
            if tied
            else (lambda shape: draw(shape, number)),  # noqa: B023
            4,
        )
        context = free(
            context, *rng.choice(num_frames, rng.integers(num_frames + 1))
        )
        arguments = dict(
            topk=int(rng.integers(1, 12)),
            temperature=float(rng.uniform(0.07, 1)),
            radius=rng.choice([None, 0.5, 1, 1.5, 2, 3, 9]),
            window=str(rng.choice(['square', 'circle'])),
            keep_ties=keep_ties,
            max_affinities=int(rng.integers(1, 1000)),
        )
        np.testing.assert_allclose(
            ours(arguments, query, context, grid),
            expected(arguments, query, context, grid),
            atol=5e-6,
            err_msg=f'{number}: {grid} {arguments}',
        )


@pytest.mark.parametrize('radius', [None, 1, 3])
@pytest.mark.parametrize('topk', [1, 5, 15])
def test_ties_are_kept(topk, radius):
    query, context = problem(features=draw_exact, width=4)
    arguments = DINO | dict(
        topk=topk, temperature=1, radius=radius, keep_ties=True
    )
    want = naive.dino(query, context, 9, topk, 1, radius)
    np.testing.assert_allclose(
        ours(arguments, query, context), want, atol=2e-6
    )
    # Ties matter here: without them it is another result.
    without = naive.crw(query, context, 9, topk, 1, radius, 'square')
    assert np.abs(want - without).max() > 0.02


@pytest.mark.parametrize('max_affinities', [100, 10**6])
@pytest.mark.parametrize('features, width', [(draw, 8), (draw_exact, 4)])
def test_an_attempt_knows_whether_it_is_right(features, width, max_affinities):
    """On a GPU, where the number of ties would have to be waited for."""
    query, context = problem(features=features, width=width)
    arguments = DINO | dict(keep_ties=True, max_affinities=max_affinities)
    propagation = Propagation(**arguments)
    frames = [
        Frame(torch.from_numpy(keys), torch.from_numpy(labels), local)
        for keys, labels, local in context
    ]
    given = torch.from_numpy(query), frames, GRID
    doubts = []
    labels = propagation._label(*given, doubts)
    wrong = not torch.equal(labels, propagation(*given))
    assert bool(torch.stack(doubts).any()) == wrong == (width == 4)
    # A CPU knows at once.
    labels, doubt = propagation.attempt(*given)
    assert torch.equal(labels, propagation(*given)) and not doubt


def test_of_ties_any_are_taken_but_k_in_number():
    query, context = problem(3, features=draw_exact, width=4)
    length = len(query)
    # A label for each cell of the context: the result is its weight.
    weights_of = np.eye(3 * length).reshape(3, length, -1)
    context = [
        (features, label, local)
        for (features, _, local), label in zip(
            free(context, 1), weights_of, strict=True
        )
    ]
    arguments = CRW | dict(radius=3, keep_ties=False)
    result = ours(arguments, query, context)
    for cell, weights in enumerate(result):
        cosines, near, _ = naive.compare(
            cell, query[cell], context, 9, 3, 'circle'
        )
        cosines = np.where(near, cosines, -np.inf)
        largest = np.sort(cosines)[::-1][:7]
        np.testing.assert_array_equal(
            np.sort(cosines[weights > 0])[::-1], largest
        )
        exponentials = np.exp(cosines / 0.7) * (weights > 0)
        np.testing.assert_allclose(
            weights, exponentials / exponentials.sum(), atol=1e-6
        )


@pytest.mark.parametrize('radius', [None, 2])
def test_where_all_are_equal_the_window_is_averaged(radius):
    _, context = problem()
    constant = np.full((63, 4), 0.5)
    context = [(constant, labels, local) for _, labels, local in context]
    arguments = DINO | dict(radius=radius, keep_ties=True)
    result = ours(arguments, constant, context)
    mean = np.mean([labels for _, labels, _ in context], 0).reshape(7, 9, 3)
    for cell, label in enumerate(result):
        y, x = divmod(cell, 9)
        rows, columns = slice(None), slice(None)
        if radius is not None:
            rows = slice(max(y - radius, 0), y + radius + 1)
            columns = slice(max(x - radius, 0), x + radius + 1)
        np.testing.assert_allclose(
            label, mean[rows, columns].mean((0, 1)), atol=1e-6
        )


@pytest.mark.parametrize('keep_ties', [True, False])
@pytest.mark.parametrize('radius', [None, 2])
def test_result_does_not_depend_on_max_affinities(radius, keep_ties):
    query, context = problem(
        features=draw_exact if keep_ties else draw, width=4
    )
    context = free(context, 0)
    arguments = DINO | dict(radius=radius, keep_ties=keep_ties)
    want = expected(arguments, query, context)
    per_row = 4 * 63 * 9
    for limit in [1, *(rows * per_row for rows in range(1, 8)), 4_000_000]:
        np.testing.assert_allclose(
            ours(arguments | dict(max_affinities=limit), query, context),
            want,
            atol=2e-6,
        )


class _Largest(TorchDispatchMode):
    """The most elements that any new tensor has."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize('keep_ties', [True, False])
@pytest.mark.parametrize('rows', [1, 3, 12])
def test_max_affinities_bounds_the_memory(rows, keep_ties):
    grid, num_frames = (12, 16), 6
    length = 12 * 16
    query, context = problem(num_frames, grid, channels=2)
    limit = rows * 16 * num_frames * length
    arguments = DINO | dict(
        radius=None, keep_ties=keep_ties, max_affinities=limit
    )
    with _Largest() as largest:
        ours(arguments, query, context, grid)
    # Affinities are of a frame each; inputs and labels are of all of them.
    assert rows * 16 * length <= largest.elements <= limit
    assert limit <= num_frames * length**2


def test_float64_is_exact():
    query, context = problem()
    arguments = DINO | dict(radius=3, keep_ties=True)
    want = naive.dino(query, context, 9, 5, 0.1, 3)
    result = ours(arguments, query, context, dtype=torch.float64)
    np.testing.assert_allclose(result, want, rtol=1e-12)


@pytest.mark.parametrize('keep_ties', [True, False])
def test_order_of_frames_does_not_matter(keep_ties):
    query, context = problem()
    context = free(context, 1)
    arguments = DINO | dict(radius=2, keep_ties=keep_ties)
    result = ours(arguments, query, context)
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        shuffled = [context[number] for number in order]
        np.testing.assert_allclose(
            ours(arguments, query, shuffled), result, atol=1e-6
        )
    # But whose labels are whose does.
    mixed = [
        (features, context[number - 1][1], local)
        for number, (features, _, local) in enumerate(context)
    ]
    assert np.abs(ours(arguments, query, mixed) - result).max() > 0.1


def test_a_copied_frame_counts_as_often_as_it_is_there():
    query, context = problem(num_frames=2)
    arguments = DINO | dict(topk=4, radius=None, keep_ties=False)
    # Four neighbours are two cells of the frame that is there twice.
    twice = ours(arguments, query, [context[0], context[0]])
    once = ours(arguments | dict(topk=2), query, [context[0]])
    np.testing.assert_allclose(twice, once, atol=1e-6)
    assert np.abs(twice - ours(arguments, query, [context[0]])).max() > 0.01


def test_nearest_neighbour_alone_gives_its_label():
    """Where the features move, the labels move along."""
    features = draw((8, 12, 8))
    labels = np.random.default_rng(2).uniform(size=(8, 12, 2))
    shift = dict(shift=(1, 2), axis=(0, 1))
    query = np.roll(features, **shift).reshape(96, 8)
    arguments = DINO | dict(topk=1, radius=None, keep_ties=True)
    result = ours(
        arguments,
        query,
        [(features.reshape(96, 8), labels.reshape(96, 2), True)],
        (8, 12),
    )
    np.testing.assert_allclose(
        result.reshape(8, 12, 2), np.roll(labels, **shift), atol=1e-6
    )


@pytest.mark.parametrize(
    'bad, message',
    [
        (dict(window='round'), "window must be 'square' or 'circle'"),
        (dict(topk=0), 'topk must be above 0'),
        (dict(temperature=0.0), 'temperature must be above 0'),
        (dict(radius=-1), 'radius must be above 0'),
        (dict(max_affinities=0), 'max_affinities must be above 0'),
    ],
)
def test_bad_arguments(bad, message):
    with pytest.raises(ValueError, match=message):
        Propagation(**(DINO | dict(keep_ties=True) | bad))


def test_describe():
    description = Propagation(**DINO, keep_ties=True).describe()
    assert description == DINO | dict(keep_ties=True)
