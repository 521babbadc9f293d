"""All axes, all orders, all ways to broadcast; whole vectors, parts of them, single elements and none."""

import itertools

import numpy as np
import pytest

from tests.compiler.native import check
from tests.compiler.test_fusion import FUNCTIONS, NEED_A_ROW, pair
from tinyflow.core.dtypes import bool_, float32, float64, int32
from tinyflow.core.errors import ShapeError
from tinyflow.ops import elementwise as e
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import flip, pad, permute, reshape, slice_
from tinyflow.ops.reduction import argmax, max_, mean, sum_

SHAPE = (3, 4, 17, 5)


def numbers(shape, dtype=float32, seed=0):
    drawn = np.random.default_rng(seed).uniform(-9, 9, shape)
    return drawn > 0 if dtype is bool_ else drawn.astype(dtype.numpy)


def subsets(rank):
    return [axes for k in range(1, rank + 1) for axes in itertools.combinations(range(rank), k)]


@pytest.mark.parametrize("fold", [sum_, max_, mean], ids=lambda f: f.__name__)
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "dropped"])
def test_folds_over_all_axes(fold, keep):
    x = placeholder(float32, SHAPE, "x")
    check([fold(x, axes, keep) for axes in subsets(4)], {x: numbers(SHAPE)}, threads=(1, 3), added=1020)


@pytest.mark.parametrize("dtype", [float64, int32, bool_], ids=str)
def test_greatest_elements_over_all_axes(dtype):
    x = placeholder(dtype, SHAPE, "x")
    where = [argmax(x, d) for d in range(4)] if dtype is not bool_ else []
    check([max_(x, axes) for axes in subsets(4)] + where, {x: numbers(SHAPE, dtype)}, threads=(1, 3))


@pytest.mark.parametrize("fold", [sum_, max_], ids=lambda f: f.__name__)
def test_folds_of_what_is_computed(fold):
    """The operand of a fold has no array of its own: it is computed where it is folded."""
    x, y = placeholder(float32, SHAPE, "x"), placeholder(float32, SHAPE[2:], "y")
    inner = e.tanh(x) * y + 1.0
    check(
        [fold(inner, axes) for axes in subsets(4)],
        {x: numbers(SHAPE), y: numbers(SHAPE[2:])},
        threads=(1, 3),
        added=1020,
    )


def test_all_orders_of_axes():
    x = placeholder(float32, SHAPE, "x")
    orders = list(itertools.permutations(range(4)))
    check([permute(x, order) * 2.0 for order in orders], {x: numbers(SHAPE)}, threads=(1, 3))
    check([sum_(permute(x, order), (1, 3)) for order in orders], {x: numbers(SHAPE)}, threads=(2,), added=85)


@pytest.mark.parametrize("side", [0, 1])
def test_all_ways_to_broadcast(side):
    full = (3, 5, 17)
    x = placeholder(float32, full, "x")
    nodes, fed = [], {x: numbers(full)}
    for lead in range(4):
        for ones in itertools.product([False, True], repeat=3 - lead):
            shape = tuple(1 if one else n for one, n in zip(ones, full[lead:], strict=True))
            y = placeholder(float32, shape, "y")
            fed[y] = numbers(shape, seed=len(nodes))
            nodes.append(x - y if side else e.exp(y * 0.1) * x)
    check(nodes, fed, threads=(1, 3))


def test_both_sides_are_stretched():
    nodes, fed = [], {}
    for a, b in [
        ((3, 1), (1, 17)),
        ((1, 5, 1), (4, 1, 16)),
        ((7, 1, 1), (9,)),
        ((1,), (3, 1)),
        ((), (33,)),
        ((0, 1), (1, 5)),
        ((1, 1), (0,)),
    ]:
        x, y = placeholder(float32, a, "x"), placeholder(float32, b, "y")
        fed |= {x: numbers(a), y: numbers(b, seed=1)}
        nodes += [x + y, sum_(x * y)]
    check(nodes, fed, threads=(1, 2), added=320)


def test_shapes_of_the_same_elements():
    x = placeholder(float32, (4, 6, 10), "x")
    shapes = [
        (240,),
        (24, 10),
        (4, 60),
        (6, 4, 10),
        (10, 6, 4),
        (2, 2, 6, 2, 5),
        (1, 240, 1),
        (120, 2),
        (48, 5),
        (3, 8, 10),
    ]
    nodes = [reshape(x, s) + 1.0 for s in shapes] + [reshape(permute(x, (2, 0, 1)), s) * 2.0 for s in shapes]
    check(nodes, {x: numbers((4, 6, 10))}, threads=(1, 3))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pieces_at_every_edge(rank):
    shape = (7, 5, 33)[-rank:]
    x = placeholder(float32, shape, "x")
    nodes = []
    for d, n in enumerate(shape):
        for begin, size, step in [
            (0, 1, 1),
            (n - 1, 1, 1),
            (1, n - 1, 1),
            (0, (n + 1) // 2, 2),
            (n - 1, n, -1),
            (n - 1, (n + 2) // 3, -3),
            (1, 0, 1),
        ]:
            at = [tuple(a if k == d else b for k in range(rank)) for a, b in ((begin, 0), (step, 1))]
            nodes.append(
                e.exp(slice_(x, at[0], tuple(size if k == d else m for k, m in enumerate(shape)), at[1]) * 0.1)
            )
        for low, high in [(0, 1), (1, 0), (17, 16)]:
            nodes.append(
                pad(x, *(tuple(a if k == d else 0 for k in range(rank)) for a in (low, high)), value=2.0) + 1.0
            )
        nodes.append(flip(x, (d,)) * 2.0)
    check(nodes, {x: numbers(shape)}, threads=(1, 3))


@pytest.mark.parametrize("shape", [(16, 64), (1, 1023), (1, 1), (0, 5), (5, 1)], ids=str)
@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in NEED_A_ROW])
def test_functions_of_known_sizes(name, shape):
    """Sizes that are numbers: whole vectors need no tail, single rows no loop, none nothing at all."""
    fed = pair(shape)
    try:
        nodes = FUNCTIONS[name](*fed)
    except ShapeError as error:  # a maximum of no rows
        assert 0 in shape and "nothing to reduce" in str(error)
        return
    check(nodes, fed, threads=(2,), added=max(shape))
