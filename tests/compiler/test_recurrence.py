"""Loops in native code: their numpy meaning, the same bits for any number of threads; sizes known only when running."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.compiler.native import check, run
from tests.graph.test_recurrence import scalar
from tests.recurrences import CASES, H, feed, make
from tinyflow import execute
from tinyflow.compiler.pipeline import build
from tinyflow.core.dtypes import float32, float64, int32
from tinyflow.core.errors import GraphError, IndexOutOfRange
from tinyflow.core.expr import fresh_dim
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.control import assign, merge, switch
from tinyflow.ops.indexing import gather
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.movement import expand
from tinyflow.ops.recurrence import Recurrence
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients
from tinyflow.runtime.items import Loop


def with_gradients(leaves: list[Any], results: list[Any]) -> list[Any]:
    floats = [n for n in leaves if n.dtype.is_floating]
    found = gradients([scalar(results)], floats) if any(y.dtype.is_floating for y in results) else []
    return [*results, *(g for g in found if g is not None)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str, reverse: bool) -> None:
    leaves, results = make(name, 5, 3, float64, reverse)
    check(with_gradients(leaves, results), feed(leaves, {}), added=20)


@pytest.mark.parametrize("steps, batch", [(0, 2), (1, 1), (2, 0), (3, 33)])
@pytest.mark.parametrize("name", CASES)
def test_sizes(name: str, steps: int, batch: int) -> None:
    leaves, results = make(name, steps, batch, float64)
    check(with_gradients(leaves, results), feed(leaves, {}), threads=(1, 3), added=200)


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("alone", "left_early")])  # no sequence tells the steps
def test_sizes_known_only_when_running(name: str) -> None:
    steps, batch = fresh_dim("steps"), fresh_dim("batch")
    leaves, results = make(name, steps, batch, float64)
    nodes = with_gradients(leaves, results)
    runner = execute.compile(nodes)
    for sizes in ({steps: 4, batch: 3}, {steps: 1, batch: 17}, {steps: 0, batch: 2}):
        fed = feed(leaves, sizes)
        check(nodes, {n: a for n, a in fed.items() if n in runner.given}, threads=(1, 2), added=200)


@pytest.mark.parametrize("hidden, batch", [(64, 32), (37, 5), (128, 1)])
def test_products_of_many_columns(hidden: int, batch: int) -> None:
    """Large enough for tiles, panels and threads that share the columns."""
    h0, xs = placeholder(float32, (batch, hidden)), placeholder(float32, (6, batch, hidden))
    w, u = placeholder(float32, (hidden, hidden)), placeholder(float32, (hidden, hidden))
    r = Recurrence(6)
    h, x = r.state(h0), r.slice(xs)
    new = e.tanh(matmul(x, w, transpose_b=True) * 0.1 + matmul(h, u, transpose_b=True) * 0.1)
    r.close([new])
    ys, last = r.results([r.each(new), r.final(0)])
    leaves = [h0, xs, w, u]
    check([ys, last, *gradients([sum_(ys * ys)], leaves)], feed(leaves, {}), added=hidden * batch)


def program_of(nodes: list[Any]) -> Any:
    return build(pipeline.run(nodes), {})


def test_size_of_the_program_does_not_depend_on_the_steps() -> None:
    sizes = set()
    for steps in (600, 6000):
        leaves, results = make("joined", steps, 4)
        made = program_of(with_gradients(leaves, results))
        sizes.add((len(made.kernels), len({c.text for c in made.codes})))
    assert len(sizes) == 1


def test_weights_are_packed_once() -> None:
    h0, u = placeholder(float32, (64, 128)), placeholder(float32, (128, 128))
    r = Recurrence(10)
    h = r.state(h0)
    r.close([e.tanh(matmul(h, u))])
    made = program_of(r.results([r.final(0)]))
    packing, start, loop, *_ = made.program.items
    assert packing.name.endswith("p") or start.name.endswith("p")
    assert isinstance(loop, Loop) and len(loop.items) == 1  # one kernel a step


def test_temporaries_of_a_body_are_there_once() -> None:
    """Memory grows with the steps only by what is kept of each."""

    def bytes_of(steps: int) -> int:
        leaves, results = make("rows", steps, 64)
        runner = execute.compile(results[1:])
        runner({n: a for n, a in feed(leaves, {}).items() if n in runner.given}, {})
        ((binding,),) = runner.native.program.free.values()
        return int(binding.bytes)

    assert bytes_of(100) - bytes_of(50) <= 50 * 64 * 8 * 4 + 128


def test_a_loop_on_one_side_of_a_condition() -> None:
    p, x = placeholder(np_bool(), (), "p"), placeholder(float32, (4, 40, H))
    r = Recurrence(4)
    h, s = r.state(switch(expand(sum_(x), (40, H)), p, True)), r.slice(switch(x, p, True))
    r.close([e.tanh(h + s)])
    (last,) = r.results([r.final(0)])
    y = merge(p, switch(x * 1.0, p, False), expand(last, (4, 40, H)))
    for truth in (True, False):
        check([y, *gradients([y], [x])], {**feed([x], {}), p: np.bool_(truth)}, added=40)


def np_bool() -> Any:
    from tinyflow.core.dtypes import bool_

    return bool_


def test_a_variable_takes_a_loops_result() -> None:
    v, xs = variable(float32, (3, H), "v"), placeholder(float32, (5, 3, H))
    r = Recurrence(5)
    h, x = r.state(v), r.slice(xs)
    r.close([h * 0.5 + x])
    (last,) = r.results([r.final(0)])
    runner = execute.compile([assign(v, last), sum_(v)])
    store = {v: np.ones((3, H), np.float32)}
    fed = feed([xs], {})
    want = store[v].copy()
    for x_t in fed[xs]:
        want = want * np.float32(0.5) + x_t
    got, before = runner(fed, store)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(store[v], want)
    assert before == 3 * H


def test_a_bad_index_in_a_step_is_an_error_and_writes_nothing() -> None:
    v, table, at = variable(float32, (H,), "v"), placeholder(float32, (4, H)), placeholder(int32, (6,))
    r = Recurrence(6)
    h, i = r.state(v), r.slice(at)
    r.close([h + gather(table, i)])
    (last,) = r.results([r.final(0)])
    runner = execute.compile([assign(v, last)])
    store = {v: np.zeros(H, np.float32)}
    fed = {table: np.ones((4, H), np.float32), at: np.array([0, 1, 2, 9, 0, 0], np.int32)}
    with pytest.raises(IndexOutOfRange, match="index 9 is out of range for 4 entries"):
        runner(fed, store)
    np.testing.assert_array_equal(store[v], 0)
    fed[at] = np.zeros(6, np.int32)
    runner(fed, store)
    np.testing.assert_array_equal(store[v], 6)


def test_lengths_that_differ_are_an_error() -> None:
    a, b = (placeholder(float32, (fresh_dim("t"), 3)) for _ in range(2))
    r = Recurrence(a.shape[0])
    h, x, y = r.state(placeholder(float32, (3,))), r.slice(a), r.slice(b)
    r.close([h + x * y])
    runner = execute.compile(r.results([r.final(0)]))
    fed = {n: np.ones([2 if d == a.shape[0] else 3 for d in n.shape], np.float32) for n in runner.given}
    with pytest.raises(GraphError, match="must equal"):
        runner(fed, {})


def test_many_loops_beside_each_other() -> None:
    """Loops of one program have counters of their own."""
    xs = placeholder(float32, (7, 4, H))
    results = []
    for k in range(5):
        r = Recurrence(7, reverse=k % 2 == 1)
        h, x = r.state(sum_(xs, 0) * float(k)), r.slice(xs)
        r.close([e.sin(h) + x])
        results += r.results([r.final(0), r.each(h)])
    check(results, feed([xs], {}), added=7)
    assert len(run(results, feed([xs], {}))) == 10
