"""Indices from data: right ones give what numpy gives, wrong ones an error with the line, and no memory outside is touched."""

import re

import numpy as np
import pytest

from tests.compiler.native import THREADS
from tinyflow import execute
from tinyflow.compiler import pipeline, scatter
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32, int32, int64, uint8
from tinyflow.core.errors import IndexOutOfRange
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.evaluate import evaluate
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import matmul
from tinyflow.ops.indexing import gather, scatter_add, scatter_onto, take_along
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.movement import pad, slice_
from tinyflow.ops.reduction import sum_
from tinyflow.passes.gradient import gradients

ROWS, COLUMNS, COUNT = 30, 20, 77
X, I, U = (
    placeholder(float32, (ROWS, COLUMNS), "x"),
    placeholder(int32, (COUNT,), "i"),
    placeholder(float32, (COUNT, COLUMNS), "u"),
)
# fmt: off
USES = {
    "gather":             lambda: gather(X, I) * 2.0,
    "gather and fold":    lambda: sum_(gather(X, I), 1),
    "fold of gather":     lambda: sum_(gather(X, I)),
    "one column":         lambda: gather(slice_(X, (0, 3), (ROWS, 1)), I) + 1.0,
    "softmax of gather":  lambda: f.softmax(gather(X, I)),
    "into a product":     lambda: matmul(gather(X, I), X, transpose_b=True),
    "from a product":     lambda: gather(matmul(X, X, transpose_b=True), I),
    "beside a product":   lambda: matmul(U, X, transpose_b=True) + gather(matmul(X, X, transpose_b=True), I),
    "scatter":            lambda: scatter_add(U, I, ROWS) + 1.0,
    "scatter of numbers": lambda: scatter_add(sum_(U, 1), I, ROWS),
    "gradient":           lambda: gradients([sum_(gather(X, I) * U)], [X])[0],
    "within padding":     lambda: pad(gather(X, I), (1, 0), (2, 3)) * 2.0,
    "twice":              lambda: gather(X, I) + gather(X * 2.0, I),
}
# fmt: on


def fed(index):
    rng = np.random.default_rng(0)
    return {
        X: rng.uniform(-1, 1, X.shape).astype(np.float32),
        U: rng.uniform(-1, 1, U.shape).astype(np.float32),
        I: index,
    }


def indices(place, bad):
    found = np.random.default_rng(1).integers(0, ROWS, COUNT).astype(np.int32)
    found[place] = bad
    return found


@pytest.mark.parametrize("bad", [ROWS, -1, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("name", USES)
def test_a_bad_index_is_named(name, bad):
    node = USES[name]()
    runner = execute.compile([node])
    for k, place in enumerate((0, 16, COUNT - 1)):
        with (
            config(THREADS=THREADS[k]),
            pytest.raises(
                IndexOutOfRange, match=f"index {bad} is out of range for {ROWS} entries.*{re.escape(__file__)}:"
            ),
        ):
            runner(fed(indices(place, bad)), {})
    runner(fed(indices(0, ROWS - 1)), {})  # a good run after a bad one is good


def test_the_error_names_the_line_that_made_the_index():
    i = placeholder(int64, (5,), "i")
    one = gather(X, i)  # first
    two = gather(X * 3.0, i + 10)  # second
    runner = execute.compile([one, two])
    with pytest.raises(IndexOutOfRange, match=r"index 35 .*# second"):
        runner({X: fed(I)[X], i: np.array([0, 1, 25, 3, 4])}, {})


@pytest.mark.parametrize("dtype", [int32, int64, uint8], ids=str)
def test_index_types(dtype):
    x, i = placeholder(float32, (300,), "x"), placeholder(dtype, (40,), "i")
    runner = execute.compile([gather(x, i)])
    a, index = np.arange(300, dtype=np.float32), np.arange(40).astype(dtype.numpy) * 6
    np.testing.assert_array_equal(runner({x: a, i: index}, {})[0], a[index])
    if dtype is int64:
        for bad in (2**40, -(2**63), 2**63 - 1):
            index[7] = bad
            with pytest.raises(IndexOutOfRange, match=f"index {bad}"):
                runner({x: a, i: index}, {})


def test_a_bad_index_writes_nothing_to_variables():
    v, n = variable(float32, (ROWS, COLUMNS), "v"), fresh_dim()
    i = placeholder(int32, (n,), "i")
    held = np.ones((ROWS, COLUMNS), np.float32)
    runner = execute.compile([sum_(v)], {v: v - scatter_add(gather(v, i), i, ROWS) * 0.5})
    store = {v: held}
    for bad in (ROWS, -1):
        with pytest.raises(IndexOutOfRange):
            runner({i: np.array([0, bad, 2], np.int32)}, store)
        assert store[v] is held and np.all(held == 1)
    runner({i: np.array([0, 0], np.int32)}, store)
    np.testing.assert_array_equal(store[v][:2, 0], [0, 1])


def test_nothing_is_gathered_from_nothing():
    n, m = fresh_dim(), fresh_dim()
    x, i = placeholder(float32, (n, 3), "x"), placeholder(int32, (m,), "i")
    runner = execute.compile([gather(x, i), scatter_add(gather(x, i), i, n)])
    got = runner({x: np.zeros((0, 3), np.float32), i: np.zeros(0, np.int32)}, {})
    assert [a.shape for a in got] == [(0, 3), (0, 3)]
    with pytest.raises(IndexOutOfRange, match="index 0 is out of range for 0 entries"):
        runner({x: np.zeros((0, 3), np.float32), i: np.zeros(1, np.int32)}, {})


def test_take_along_checks_every_row():
    x, i = placeholder(float32, (40, 9), "x"), placeholder(int32, (40, 2), "i")
    runner = execute.compile([take_along(x, i, 1) + 1.0])
    index = np.zeros((40, 2), np.int32)
    a = np.arange(360, dtype=np.float32).reshape(40, 9)
    np.testing.assert_array_equal(runner({x: a, i: index}, {})[0], np.take_along_axis(a, index, 1) + 1)
    index[39, 1] = 9
    with pytest.raises(IndexOutOfRange, match="index 9 is out of range for 9 entries"):
        runner({x: a, i: index}, {})


def test_labels_of_a_loss_are_checked():
    x, t = placeholder(float32, (8, 10), "x"), placeholder(int64, (8,), "t")
    runner = execute.compile([f.sparse_cross_entropy(x, t)])
    with pytest.raises(IndexOutOfRange, match="index 10 is out of range for 10 entries"):
        runner({x: np.zeros((8, 10), np.float32), t: np.array([0, 1, 2, 10, 4, 5, 6, 7])}, {})


def test_an_index_that_is_not_chosen_is_checked_all_the_same():
    """numpy computes both sides of a where; so does the program."""
    i = placeholder(int32, (4,), "i")
    runner = execute.compile([e.where(e.less(i, ROWS), sum_(gather(X, i), 1), 0.0)])
    with pytest.raises(IndexOutOfRange):
        runner({X: fed(I)[X], i: np.array([0, 1, ROWS, 2], np.int32)}, {})


# fmt: off
LAST = {  # what is made of y and of y with u pushed onto it; whether the second may be stored over the first
    "last":          (lambda y, z, u: e.exp(z), True),
    "read again":    (lambda y, z, u: e.exp(z) * y, False),
    "wanted too":    (lambda y, z, u: [e.exp(z), y], False),
}
PUSHED = {  # what is pushed onto y
    "others":        (lambda y, u: u, True),
    "itself":        (lambda y, u: y, False),
    "made of it":    (lambda y, u: y * u, False),
    "read before":   (lambda y, u: u * sum_(y, 0), True),
}
# fmt: on


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("pushed", PUSHED)
@pytest.mark.parametrize("last", LAST)
def test_what_nobody_reads_later_is_stored_over(last, pushed, threads, monkeypatch):
    rng = np.random.default_rng(0)
    rows, columns = (
        40 + threads,
        50 + 10 * list(LAST).index(last) + list(PUSHED).index(pushed),
    )  # compiled for this test
    x, u = (placeholder(float32, (rows, columns), name) for name in "xu")
    i, j = (placeholder(int64, (rows,), name) for name in "ij")
    y = scatter_onto(e.sin(x), u, i)
    z = scatter_onto(y, PUSHED[pushed][0](y, u), j)
    z = scatter_onto(z, u, i)  # so that z is no result
    made = LAST[last][0](y, z, u)
    roots = made if isinstance(made, list) else [made]
    over = []

    def lower(*args):
        kernels = scatter.lower(*args)
        over.append(kernels[0].recipe.start is None)
        return kernels

    monkeypatch.setitem(pipeline.WHOLE, "into", lower)
    fed = {n: rng.standard_normal(n.shape).astype("f4") for n in (x, u)} | {
        n: rng.integers(0, rows, rows) for n in (i, j)
    }
    with config(THREADS=threads):
        got = execute.compile(roots)(fed, {})
    want = evaluate(roots, fed)
    for a, n in zip(got, roots, strict=True):
        np.testing.assert_allclose(a, want[n], rtol=2e-5, atol=2e-5)
    assert over.count(False) == (1 if LAST[last][1] and PUSHED[pushed][1] else 2)  # of those that are not alike
