"""Sizes known only when running: what they must be to each other is asked before anything runs."""

import numpy as np
import pytest

from tests.compiler.native import check, check_close
from tinyflow import execute, programs
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.core.errors import GraphError, ShapeError
from tinyflow.core.expr import fresh_dim
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import placeholder, size, variable
from tinyflow.ops.movement import concat, expand, flip, reshape, slice_
from tinyflow.ops.reduction import mean, sum_
from tinyflow.runtime import program

N, M = fresh_dim("n"), fresh_dim("m")
X, Y = placeholder(float32, (N, 4), "x"), placeholder(float32, (M, 4), "y")
# fmt: off
CASES = {  # a graph, sizes that fit it, sizes that do not
    "slice":         (lambda: slice_(X, (2, 0), (3, 4)) + 1.0,                   [(5, 1), (9, 1)], [(4, 1), (0, 1), (2, 1)]),
    "slice by step": (lambda: slice_(X, (5, 0), (3, 4), (-2, 1)) + 1.0,          [(6, 1), (7, 1)], [(5, 1), (1, 1)]),
    "reshape":       (lambda: reshape(X, (6, 2)) * 2.0,                          [(3, 1)],         [(2, 1), (4, 1), (0, 1)]),
    "reshape by":    (lambda: reshape(X, (-1, 8)) * 2.0,                         [(2, 1), (4, 1)], [(3, 1)]),
    "expand":        (lambda: expand(reshape(X, (N, 1, 4)), (5, 3, 4)) + 1.0,    [(5, 1)],         [(4, 1), (6, 1)]),
    "concat":        (lambda: concat([X, Y], 1) * 2.0,                           [(3, 3), (0, 0)], [(3, 4), (1, 3)]),
    "add":           (lambda: X + Y,                                             [(3, 3), (1, 1)], [(3, 4), (7, 2)]),
    "matmul":        (lambda: matmul(X, reshape(Y, (4, M))) + matmul(X, reshape(X, (4, N))), [(3, 3)], [(3, 4)]),
    "inner":         (lambda: matmul(reshape(X, (4, N)), Y),                     [(3, 3), (40, 40)], [(3, 4), (40, 39)]),
    "split":         (lambda: f.split(X, (2, N - 2), 0)[1] * 1.0,                [(2, 1), (7, 1)], [(1, 1)]),
    "where":         (lambda: e.where(e.less(X, 0.0), Y, X),                     [(3, 3)],         [(3, 2)]),
}
# fmt: on


def arrays(sizes):
    rng = np.random.default_rng(0)
    return {x: rng.uniform(-1, 1, (n, 4)).astype(np.float32) for x, n in zip((X, Y), sizes, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_sizes_that_fit(name):
    make, fit, _ = CASES[name]
    for sizes in fit:
        check([make()], arrays(sizes), added=40)


@pytest.mark.parametrize("reference", [0, 1], ids=["native", "by numpy"])
@pytest.mark.parametrize("name", CASES)
def test_sizes_that_do_not_fit_are_refused_before_anything_runs(name, reference):
    make, _, unfit = CASES[name]
    v = variable(float32, (), "v")
    runner = execute.compile([make()], {v: v + 1.0})
    for sizes in unfit:
        store = {v: np.zeros((), np.float32)}
        with config(REFERENCE=reference), pytest.raises((ShapeError, GraphError), match=r"test_sizes\.py:\d+"):
            runner(arrays(sizes), store)
        assert store[v] == 0


def test_shapes_of_what_is_fed():
    x = placeholder(float32, (3, 4), "images")
    runner = execute.compile([x + 1.0])
    for wrong in (np.zeros((4, 3)), np.zeros(12), np.float32(0)):
        with pytest.raises(GraphError, match=r"images .*takes shape \(3, 4\)"):
            runner({x: wrong}, {})
    square = placeholder(float32, (N, N), "square")
    with pytest.raises(GraphError, match=r"square .*\(2, 3\)"):
        execute.compile([square + 1.0])({square: np.zeros((2, 3))}, {})


def test_one_program_for_all_sizes():
    node = [f.softmax(X), sum_(X, 0), mean(X), size(N * 4), flip(X, (0,))]
    for n in (1, 2, 3, 7, 64, 1000):
        check(node, {X: arrays((n, 1))[X]}, threads=(2,), added=n)
    before = len(programs._programs)
    check(node, {X: arrays((123, 1))[X]}, threads=(2,), added=123)
    assert len(programs._programs) == before


def test_memory_does_not_grow_with_every_size():
    runner = execute.compile([f.softmax(sum_(X, 1)) * 2.0])
    for n in range(1, 300):
        runner({X: np.zeros((n, 4), np.float32)}, {})
    assert len(runner.known) <= execute.MOST_SIZES
    assert len(runner.native.program.free) <= program.MOST_SIZES


def test_nothing_to_do():
    assert execute.compile([])({}, {}) == []


SHOWN = {
    1: "of temporaries",
    2: "GFLOP/s",
    3: "pass over",
    4: "parallel for r0",
    5: "define void @kernel",
    6: "rewrite add zero",
}


@pytest.mark.parametrize("level", range(7))
def test_what_debug_shows(level, capsys):
    node = f.softmax(X + 0.0) * (2.0 + level)  # another program each time
    with config(DEBUG=level):
        (got,) = execute.compile([node])(arrays((5, 1)), {})
    powers = np.exp(arrays((5, 1))[X])
    check_close(got, (2 + level) * powers / powers.sum(1, keepdims=True))
    said = capsys.readouterr().err
    wanted = [words for k, words in SHOWN.items() if k <= level]
    assert [words for words in SHOWN.values() if words in said] == wanted


def test_what_is_fed_may_lie_in_memory_as_it_likes():
    """Strided, transposed, read-only, of another type, a list, a number: values are what counts, and stay what they were."""
    x = placeholder(float32, (4, 6), "x")
    base = np.arange(48, dtype=np.float32).reshape(4, 12)
    frozen = base[:, :6].copy()
    frozen.flags.writeable = False
    runner = execute.compile([x * 2.0, x])
    for a in (
        base[:, ::2],
        base.reshape(12, 4)[:6].T,
        frozen,
        base[:, :6].astype(np.float64),
        base[:, 5::-1],
        base[:, :6].tolist(),
        base[:, :6].astype(">f4"),
    ):
        before = np.array(a)
        doubled, same = runner({x: a}, {})
        np.testing.assert_array_equal(doubled, before.astype(np.float32) * 2)
        np.testing.assert_array_equal(a, before)
        assert not np.shares_memory(same, np.asarray(a))
    y = placeholder(float32, (), "y")
    for number in (2, 2.0, np.float64(2), [2.0][0], np.array(2)):
        assert execute.compile([y + 1.0])({y: number}, {})[0] == 3


def test_results_belong_to_the_caller():
    x = placeholder(float32, (5,), "x")
    runner = execute.compile([x + 1.0, x + 1.0])
    fed = {x: np.zeros(5, np.float32)}
    first, twin = runner(fed, {})
    kept = first.copy()
    first += 100
    again, _ = runner({x: np.ones(5, np.float32)}, {})
    assert not np.shares_memory(first, twin) and not np.shares_memory(first, again)
    np.testing.assert_array_equal(twin, kept)
