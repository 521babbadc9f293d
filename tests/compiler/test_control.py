"""Switch and merge in native code: one side is computed, natively; the other is dead, and says so."""

import itertools

import numpy as np
import pytest

from tests.compiler.native import THREADS, check, check_close, run
from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import bool_, float32, int32
from tinyflow.core.errors import IndexOutOfRange
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.evaluate import DEAD
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import matmul
from tinyflow.ops.control import after, assign, group, merge, switch
from tinyflow.ops.indexing import gather, scatter_add
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.movement import expand, permute, reshape
from tinyflow.ops.reduction import argmax, max_, sum_
from tinyflow.passes.gradient import gradients

P, Q = placeholder(bool_, (), "p"), placeholder(bool_, (), "q")
X, Y = placeholder(float32, (30, 40), "x"), placeholder(float32, (40, 30), "y")
I = placeholder(int32, (30,), "i")


def cond(p, then, other, *operands):
    """then(...) if p else other(...), on operands that went through a switch."""
    t, o = ([switch(x, p, side) for x in operands] for side in (True, False))
    return merge(p, other(*o), then(*t))


def fed(p=True, q=True):
    rng = np.random.default_rng(0)
    arrays = {x: rng.uniform(-1, 1, x.shape).astype(np.float32) for x in (X, Y)}
    return {**arrays, P: np.bool_(p), Q: np.bool_(q), I: np.arange(30, dtype=np.int32)}


def given(nodes, arrays):
    """What is fed of the leaves that the graph has."""
    needed = execute.compile(nodes).given
    return {x: a for x, a in arrays.items() if x in needed}


# fmt: off
SIDES = {  # a side as a function of x (30, 40), y (40, 30) and i (30,): all kinds of kernels
    "elementwise":  lambda x, y, i: e.exp(x) * 2.0 + 1.0,
    "nothing":      lambda x, y, i: x,
    "constant":     lambda x, y, i: f.ones((30, 40)),
    "transposed":   lambda x, y, i: permute(y, (1, 0)) - x,
    "softmax":      lambda x, y, i: f.softmax(x),
    "rows":         lambda x, y, i: x - sum_(x, 1, keepdims=True),
    "columns":      lambda x, y, i: x / (1.0 + sum_(x * x, 0, keepdims=True)),
    "product":      lambda x, y, i: matmul(matmul(x, y), x),
    "gather":       lambda x, y, i: gather(x, i) * 3.0,
    "scatter":      lambda x, y, i: scatter_add(x, i, 30),
    "argmax":       lambda x, y, i: expand(reshape(e.cast(argmax(x, 1), float32), (30, 1)), (30, 40)),
    "scalar":       lambda x, y, i: expand(max_(x), (30, 40)),
}
# fmt: on


@pytest.mark.parametrize("name", SIDES)
def test_both_outcomes(name):
    side, other = SIDES[name], SIDES["transposed"]
    for p in (True, False):
        for then, otherwise in ((side, other), (other, side)):
            nodes = [cond(P, then, otherwise, X, Y, I) + 1.0]
            check(nodes, given(nodes, fed(p)), added=100)


def test_only_the_live_side_is_computed():
    """The dead side would fail: its index is out of range."""
    bad = {**fed(), I: np.full(30, 99, np.int32)}
    for name, live in itertools.product(("gather", "scatter"), (True, False)):
        sides = (SIDES["softmax"], SIDES[name]) if live else (SIDES[name], SIDES["softmax"])
        node = cond(P, *sides, X, Y, I)
        for threads in THREADS:
            with config(THREADS=threads):
                (got,) = execute.compile([node])({**bad, P: np.bool_(live)}, {})
        check_close(got, np.exp(bad[X]) / np.exp(bad[X]).sum(1, keepdims=True))
        with pytest.raises(IndexOutOfRange, match="index 99"):
            execute.compile([node])({**bad, P: np.bool_(not live)}, {})


@pytest.mark.parametrize("p", [True, False])
def test_a_dead_fetch_is_dead(p):
    t, o = switch(X, P, True), switch(X, P, False)
    nodes = [t, o, e.exp(t), sum_(o), matmul(t, Y), e.cast(P, int32)]
    got = check(nodes, given(nodes, fed(p)), added=40)
    assert [a is DEAD for a in got] == [not p, p, not p, p, not p, False]


@pytest.mark.parametrize("p", [True, False])
def test_a_dead_fetch_beside_its_predicate(p):
    small = e.less(sum_(X), 1e9 if p else -1e9)
    t, o = switch(X * 2.0, small, True), switch(X * 2.0, small, False)
    for nodes in ([small, t], [t, small], [o, small], [t, o], [t, t, small, small], [t]):
        check(nodes, given(nodes, fed()))


@pytest.mark.parametrize("p, q", list(itertools.product([True, False], repeat=2)))
def test_conditions_within_conditions(p, q):
    def inner(x, y, q):
        return cond(q, lambda x, y: e.exp(x), lambda x, y: matmul(matmul(x, y), x), x, y)

    node = merge(P, switch(X, P, False) * 5.0, inner(switch(X, P, True), switch(Y, P, True), switch(Q, P, True)))
    check([node, sum_(node, 0)], fed(p, q), added=100)


@pytest.mark.parametrize("p", [True, False])
def test_a_predicate_made_on_one_side(p):
    """The inner predicate is itself computed only on the outer one's side."""
    x = switch(X, P, True)
    positive = e.less(0.0, sum_(x))
    inner = merge(positive, switch(-x, positive, False), switch(x, positive, True))
    node = merge(P, switch(X, P, False) + 100.0, inner)
    for sign in (1, -1):
        arrays = fed(p)
        arrays[X] = sign * np.abs(arrays[X])
        check([node], {X: arrays[X], P: arrays[P]})


@pytest.mark.parametrize("p", [True, False])
@pytest.mark.parametrize("name", ["elementwise", "softmax", "product", "gather", "columns"])
def test_gradients_through_a_condition(name, p):
    node = cond(P, SIDES[name], SIDES["transposed"], X, Y, I)
    nodes = [node, *gradients([node * node], [X, Y])]
    check(nodes, fed(p), threads=(1, 2, 4), added=1000)


@pytest.mark.parametrize("p", [True, False])
def test_what_both_sides_share_is_computed_outside(p):
    shared = e.exp(X)
    node = merge(P, switch(shared, P, False) + 1.0, switch(shared, P, True) * 2.0)
    check([node, shared], given([node], fed(p)))


@pytest.mark.parametrize("rows", [0, 1, 50])
@pytest.mark.parametrize("p", [True, False])
def test_sizes_known_when_running(p, rows):
    n = fresh_dim()
    x = placeholder(float32, (n, 7), "x")
    small = e.less(sum_(x), 1e9 if p else -1e9)
    node = merge(small, switch(x, small, False) * 2.0, f.softmax(switch(x, small, True)))
    check(
        [node, *gradients([node * node], [x])],
        {x: np.random.default_rng(0).uniform(-1, 1, (rows, 7)).astype(np.float32)},
        added=7,
    )


def test_a_chain_of_conditions():
    y, want = X, fed()[X]
    for k in range(12):
        small = e.less(sum_(y), float(k - 6))
        y = merge(small, switch(y, small, False) * 0.9, switch(y, small, True) + 0.1)
        want = want + np.float32(0.1) if want.sum() < k - 6 else want * np.float32(0.9)
    (got,) = run([y], {X: fed()[X]})
    check_close(got, want, 1200)


# ------------------------------------------------------------------------------------------ order and effects


@pytest.mark.parametrize("p", [True, False])
def test_a_write_on_one_side(p):
    v = variable(float32, (30, 40), "v")
    write = assign(v, switch(v * 2.0 + X, P, True))
    for threads in THREADS:
        held = np.ones((30, 40), np.float32)
        store = {v: held}
        with config(THREADS=threads):
            (got,) = execute.compile([write])({X: fed()[X], P: np.bool_(p)}, store)
        assert (got is DEAD) == (not p) and store[v] is held
        check_close(held, 2 + fed()[X] if p else np.ones((30, 40), np.float32))


def test_reads_and_writes_are_ordered_as_asked():
    v, w = variable(float32, (50,), "v"), variable(float32, (50,), "w")
    write = assign(v, v + 1.0)
    roots = [v * 1.0, after(v, write) * 1.0, group(assign(w, after(v, write) * 10.0), write), w + 0.0]
    store = {v: np.zeros(50, np.float32), w: np.full(50, 7, np.float32)}
    before, now, _, old = execute.compile(roots)({}, store)
    assert (before[0], now[0], old[0], store[v][0], store[w][0]) == (0, 1, 7, 1, 10)
