"""Sizes that only data tells: what is made of them is computed in the same program, for as many as there are."""

import numpy as np
import pytest

from tests.compiler.native import THREADS
from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import bool_, float32, int64
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.evaluate import evaluate
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import matmul
from tinyflow.ops.indexing import find, gather, scatter_onto
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.reduction import max_, mean, sum_
from tinyflow.passes.gradient import gradients

ROWS, WIDTH = 70, 24
X, MASK, W = (
    placeholder(float32, (ROWS, WIDTH), "x"),
    placeholder(bool_, (ROWS,), "mask"),
    placeholder(float32, (WIDTH, 33), "w"),
)
RNG = np.random.default_rng(0)
ARRAYS = {X: RNG.uniform(-1, 1, X.shape).astype(np.float32), W: RNG.uniform(-1, 1, W.shape).astype(np.float32)}
MASKS = {
    "none": np.zeros(ROWS, bool),
    "one": np.arange(ROWS) == 3,
    "some": RNG.random(ROWS) < 0.4,
    "all": np.ones(ROWS, bool),
}
# fmt: off
USES = {
    "places":          lambda: find(MASK),
    "rows":            lambda: gather(X, find(MASK)) * 2.0,
    "sum":             lambda: sum_(gather(X, find(MASK)), 0),
    "mean of all":     lambda: mean(gather(X, find(MASK)) + 1.0) if True else None,
    "softmax":         lambda: f.softmax(gather(X, find(MASK))),
    "product":         lambda: matmul(gather(X, find(MASK)), W),
    "tall product":    lambda: matmul(gather(X, find(MASK)), gather(X, find(MASK)), transpose_a=True),
    "back in place":   lambda: scatter_onto(X, e.tanh(matmul(matmul(gather(X, find(MASK)), W), W, transpose_b=True)), find(MASK)),
    "gradient":        lambda: gradients([sum_(e.tanh(matmul(gather(X, find(MASK)), W)))], [X, W]),
    "two masks":       lambda: [sum_(gather(X, find(m)), 0) for m in (MASK, e.logical_not(MASK))],
    "of what is found": lambda: max_(gather(X, gather(find(MASK), find(e.less(gather(sum_(X, 1), find(MASK)), 0.3)))) + 0.0) if False else find(e.less(sum_(X, 1), 0.3)),
}
# fmt: on


@pytest.mark.parametrize("name", USES)
def test_all_is_computed_for_as_many_as_there_are(name):
    nodes = USES[name]()
    nodes = nodes if isinstance(nodes, list) else [nodes]
    runner = execute.compile(nodes)
    for mask in MASKS.values():
        fed = {**ARRAYS, MASK: mask}
        want = evaluate(nodes, fed)
        for threads in THREADS:
            with config(THREADS=threads), np.errstate(all="ignore"):
                got = runner(fed, {})
            for n, a in zip(nodes, got, strict=True):
                assert a.shape == want[n].shape
                np.testing.assert_allclose(a, want[n], rtol=2e-5, atol=1e-5)


def test_nothing_is_compiled_again(monkeypatch):
    from tinyflow.runtime import machine

    runner = execute.compile([matmul(gather(X, find(MASK)), W)])
    runner({**ARRAYS, MASK: MASKS["some"]}, {})
    monkeypatch.setattr(machine, "compile_many", None)
    for mask in MASKS.values():
        runner({**ARRAYS, MASK: mask}, {})


def test_in_a_batch_of_unknown_length():
    n = fresh_dim()
    x = placeholder(int64, (n, 2), "x")
    places = find(e.equal(x, 1))
    rows, columns = e.floordiv(places, 2), e.mod(places, 2)
    runner = execute.compile([rows, columns])
    for count in (0, 1, 9, 100):
        a = np.random.default_rng(count).integers(0, 3, (count, 2))
        for got, want in zip(runner({x: a}, {}), np.nonzero(a == 1), strict=True):
            np.testing.assert_array_equal(got, want)
