"""Where numpy's meaning is easily missed: NaN and infinities in folds, ties, whole numbers, order of evaluation."""

import numpy as np
import pytest

from tests.compiler.native import check, check_close, run
from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import bool_, float32, float64, int32, int64, uint8
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import constant, placeholder
from tinyflow.ops.movement import permute
from tinyflow.ops.reduction import argmax, argmin, max_, mean, min_, prod, sum_
from tinyflow.passes.gradient import gradients

NAN, INF = np.nan, np.inf
# fmt: off
ROWS = {  # what a row of numbers is made of
    "one NaN":           lambda n: np.where(np.arange(n) == n // 2, NAN, np.arange(n)),
    "NaN first":         lambda n: np.where(np.arange(n) == 0, NAN, 1.0),
    "NaN last":          lambda n: np.where(np.arange(n) == n - 1, NAN, -np.arange(n)),
    "two NaN":           lambda n: np.where(np.arange(n) % max(n // 2, 1) == n // 4, NAN, np.arange(n)),
    "all NaN":           lambda n: np.full(n, NAN),
    "infinities":        lambda n: np.where(np.arange(n) % 5 == 3, INF, np.where(np.arange(n) % 7 == 2, -INF, 0.5)),
    "all least":         lambda n: np.full(n, -INF),
    "all greatest":      lambda n: np.full(n, INF),
    "equal":             lambda n: np.full(n, 2.5),
    "ties":              lambda n: np.arange(n) % 3,
    "zeros of two signs": lambda n: np.where(np.arange(n) % 2 == 0, -0.0, 0.0),
    "falling":           lambda n: -np.arange(n),
}
# fmt: on
LENGTHS = (1, 2, 15, 16, 17, 40, 300)


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_extrema(name, dtype):
    """Along rows, where lanes meet, and down columns, where each lane has its own."""
    for n in LENGTHS:
        a = np.stack([np.roll(ROWS[name](n), k) for k in range(3)]).astype(dtype.numpy)
        x, y = placeholder(dtype, a.shape, "x"), placeholder(dtype, a.T.shape, "y")
        nodes = [g(z, axis) for g in (max_, min_, argmax, argmin) for z, axis in ((x, 1), (y, 0))] + [max_(x), min_(y)]
        check(nodes, {x: a, y: np.ascontiguousarray(a.T)}, threads=(1, 3))


@pytest.mark.parametrize("dtype", [int32, int64, uint8, bool_], ids=str)
def test_extrema_of_whole_numbers(dtype):
    rng = np.random.default_rng(0)
    ends = (0, 1) if dtype is bool_ else (np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max)
    for n in LENGTHS:
        a = rng.integers(0, 4, (3, n)).astype(dtype.numpy)
        a[1] = ends[0]
        a[2, n // 2] = ends[1]
        x = placeholder(dtype, a.shape, "x")
        sought = [] if dtype is bool_ else [argmax(x, 1), argmin(x, 1), argmax(x, 0)]
        check([max_(x, 1), min_(x, 1), max_(x, 0), min_(x), *sought], {x: a}, threads=(1, 3))


def test_sums_of_whole_numbers_wrap():
    for dtype in (int32, int64, uint8):
        a = np.full((3, 100), np.iinfo(dtype.numpy).max // 2 + 1, dtype.numpy)
        x = placeholder(dtype, a.shape, "x")
        check([sum_(x, 1), sum_(x, 0), prod(x, 1), x * x, x + x], {x: a})


def test_nan_and_infinity_flow():
    a = np.array([[1, NAN, INF, -INF, 0.0, -0.0, 3, 1e38] * 5], np.float32)
    x = placeholder(float32, a.shape, "x")
    nodes = [
        e.relu(x),
        e.maximum(x, 0.0),
        e.minimum(1.0, x),
        sum_(x, 1),
        mean(x, 1),
        x * 0.0,
        x - x,
        e.where(e.less(x, 0.5), x, -x),
        e.equal(x, x),
        e.less(x, x),
    ]
    check(
        [*nodes, f.softmax(x), e.exp(x), e.log(x), e.sqrt(x), e.sign(x), e.cast(e.cast(x, bool_), int32), x * 1e38],
        {x: a},
        threads=(1, 2),
    )


def test_nan_in_a_product_stays_in_its_row():
    a = np.ones((30, 40), np.float32)
    a[7, 3], b = NAN, np.ones((40, 33), np.float32)
    x, y = placeholder(float32, a.shape, "x"), placeholder(float32, b.shape, "y")
    (got,) = check([matmul(x, y)], {x: a, y: b}, added=40)
    assert np.isnan(got).sum() == 33


@pytest.mark.parametrize("dtype", [int32, int64, uint8], ids=str)
def test_division_by_zero_of_whole_numbers(dtype):
    least = np.iinfo(dtype.numpy).min
    a = np.array([5, 0, 7, least, least, 9, 1, 250 % 128] * 4, np.int64).astype(dtype.numpy)
    b = np.array([0, 0, 2, -1, 0, -2, 3, 7] * 4, np.int64).astype(dtype.numpy)
    x, y = placeholder(dtype, a.shape, "x"), placeholder(dtype, b.shape, "y")
    check([e.floordiv(x, y), e.mod(x, y), e.floordiv(x, 3), e.mod(x, 3)], {x: a, y: b})


def test_the_gradient_where_a_maximum_is_shared():
    x = placeholder(float32, (2, 6), "x")
    fed = {x: np.array([[1, 3, 3, 2, 3, 0], [5, 5, 5, 5, 5, 5]], np.float32)}
    (g,) = check(gradients([max_(x, 1)], [x]), fed)
    check_close(g, np.array([[0, 1 / 3, 1 / 3, 0, 1 / 3, 0], [1 / 6] * 6], np.float32))


def test_the_gradient_of_a_product_with_zeros():
    x = placeholder(float32, (3, 4), "x")
    fed = {x: np.array([[1, 2, 3, 4], [0, 2, 3, 4], [0, 0, 3, 4]], np.float32)}
    (g,) = check(gradients([prod(x, 1)], [x]), fed)
    np.testing.assert_allclose(g, [[24, 12, 8, 6], [24, 0, 0, 0], [0, 0, 0, 0]], rtol=1e-6)


def test_a_probability_that_underflows():
    x, t = placeholder(float32, (2, 3), "x"), placeholder(float32, (2, 3), "t")
    loss = mean(-sum_(t * e.log(f.softmax(x)), 1))
    fed = {x: np.array([[0, -200, 5], [1e4, -1e4, 0]], np.float32), t: np.array([[0, 1, 0], [0, 0, 1]], np.float32)}
    value, g = run([loss, *gradients([loss], [x])], fed)
    assert np.isfinite(value) and np.isfinite(g).all()
    np.testing.assert_allclose(value, (205.0067 + 1e4) / 2, rtol=1e-6)


def test_the_check_for_nan_names_the_first_node():
    x = placeholder(float32, (3,), "x")
    y = e.log(x)  # here
    with config(NAN=1):
        assert np.isfinite(execute.compile([y * 2.0])({x: np.ones(3, np.float32)}, {})[0]).all()
        with pytest.raises(
            FloatingPointError, match=r"made an infinity: log .*test_semantics\.py:\d+: y = e\.log\(x\)  # here"
        ):
            execute.compile([e.exp(y * 2.0)])({x: np.zeros(3, np.float32)}, {})
        with pytest.raises(FloatingPointError, match="x was fed with NaN"):
            execute.compile([y])({x: np.full(3, NAN, np.float32)}, {})


def test_the_reference_says_the_same():
    x = placeholder(float32, (5, 7), "x")
    fed = {x: np.random.default_rng(0).uniform(-1, 1, (5, 7)).astype(np.float32)}
    nodes = [f.softmax(x), permute(x, (1, 0)), argmax(x, 1), e.log(f.softmax(x))]
    native = execute.compile(nodes)(fed, {})
    with config(REFERENCE=1):
        reference = execute.compile(nodes)(fed, {})
    for a, b in zip(native, reference, strict=True):
        check_close(a, b)


def test_constants_of_every_kind():
    x = placeholder(float64, (3,), "x")
    nodes = [x + c for c in (0.1, 1e-320, 1e300, -0.0, NAN, INF)] + [
        e.cast(x, int64) + constant(2**62, int64),
        e.cast(x, uint8) + constant(255, uint8),
    ]
    check(nodes, {x: np.array([0, 1, 2.0])})
