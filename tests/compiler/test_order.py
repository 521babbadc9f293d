"""Sorting and running sums beside numpy: special numbers, equal elements, every recipe, long and short rows."""

import numpy as np
import pytest

from tests.compiler.native import check
from tinyflow.core.dtypes import bool_, float32, float64, int32, int64, uint8
from tinyflow.core.expr import fresh_dim
from tinyflow.ops import cumulative, sorting
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import permute

LENGTHS = (1, 2, 15, 16, 17, 64, 65, 3000)
KNOWN = (1, 17, 64, 65, 3000)
TYPES = (float32, float64, int32, int64, uint8, bool_)
SPECIAL = (np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 3e38, -3e38)


def numbers(dtype, shape, seed=0):
    """Numbers of the whole range, many of them equal; of floats also those that are not finite."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "f":
        x = np.where(
            rng.random(shape) < 0.5,
            rng.choice(SPECIAL, shape),
            rng.normal(size=shape) * 10.0 ** rng.integers(-30, 30, shape),
        )
        return x.astype(dtype.numpy)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    ends = np.iinfo(dtype.numpy)
    wide = rng.integers(ends.min, ends.max, shape, dtype.numpy, endpoint=True)
    return np.where(rng.random(shape) < 0.5, wide, rng.integers(0, 5, shape).astype(dtype.numpy)).astype(dtype.numpy)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_sorting_is_stable_and_orders_all_numbers(dtype, descending):
    x = placeholder(dtype, (fresh_dim(), fresh_dim()), "x")
    places = sorting.argsort(x, -1, descending)
    for length in LENGTHS:
        a = numbers(dtype, (19 if length < 100 else 3, length))
        check([places], {x: a}, threads=(1, 2))
        if length in KNOWN:
            known = placeholder(dtype, a.shape, "x")
            check([sorting.argsort(known, -1, descending)], {known: a}, threads=(1, 2))


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_first_k(dtype, largest):
    for length in KNOWN[1:]:
        a = numbers(dtype, (19 if length < 100 else 2, length), 1)
        x = placeholder(dtype, a.shape, "x")
        for k in {2, min(64, length), length}:
            values, places = sorting.top_k(x, k, -1, largest)
            check([values, places], {x: a}, threads=(1, 3))


def test_sorting_along_other_axes_and_of_what_is_computed():
    a = np.random.default_rng(0).normal(size=(70, 5, 3)).astype(np.float32)
    x = placeholder(float32, a.shape, "x")
    for axis in range(3):
        check([*sorting.sort(x * 2.0 - 1.0, axis), *sorting.top_k(permute(x, (2, 0, 1)), 2, axis)], {x: a})


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", [float32, float64, int32, int64], ids=str)
def test_searching_sorted_rows(dtype, right):
    n, m = fresh_dim(), fresh_dim()
    rows, x = placeholder(dtype, (3, n), "rows"), placeholder(dtype, (3, m), "x")
    for length in (0, *LENGTHS):
        fed = {rows: np.sort(numbers(dtype, (3, length)), -1), x: numbers(dtype, (3, 77), 2)}
        check([sorting.searchsorted(rows, x, right)], fed, threads=(1, 2))
        if length not in (0, *KNOWN):
            continue
        known = placeholder(dtype, (3, length), "rows")
        check([sorting.searchsorted(known, x, right)], {known: fed[rows], x: fed[x]}, threads=(1,))


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "cummin"])
def test_running_folds_of_long_axes(name):
    run = getattr(cumulative, name)
    for shape, axis in (((3, 20000), 1), ((5000, 3), 0), ((2, 301, 200), 1), ((1000,), 0), ((2, 3, 4, 70), 1)):
        a = np.random.default_rng(0).uniform(0.5, 1.5, shape)
        for dtype in (float32, float64):
            n = fresh_dim()
            x = placeholder(dtype, tuple(n if d == axis else s for d, s in enumerate(shape)), "x")
            check(
                [run(x, axis), run(x, axis, reverse=True), run(x, axis, exclusive=True)],
                {x: a.astype(dtype.numpy)},
                added=shape[axis],
            )


def test_running_folds_of_special_numbers():
    x = placeholder(float32, (50, 40), "x")
    for name in ("cumsum", "cumprod", "cummax", "cummin"):
        run = getattr(cumulative, name)
        for seed in range(5):
            a = numbers(float32, (50, 40), seed)
            check([run(x, 0), run(x, 1)], {x: np.where(np.isfinite(a) & (a != 0), np.sign(a), a)}, threads=(1,))
    (got,) = check([cumulative.cumsum(x, 1)], {x: np.full((50, 40), -0.0, np.float32)})
    assert np.all(np.signbit(got))
