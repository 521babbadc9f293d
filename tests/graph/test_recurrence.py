"""Loops by their numpy meaning: beside loops in Python, and their gradients beside differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.recurrences import CASES, H, I, feed, make
from tinyflow.core.dtypes import float32, float64, int32
from tinyflow.core.errors import GraphError, ShapeError
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import toposort, with_all_bodies
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import CONTRACT, matmul
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.recurrence import Recurrence
from tinyflow.ops.reduction import sum_
from tinyflow.ops.scan import SCAN
from tinyflow.passes.gradient import gradients

STEP = 1e-5


def scalar(results: list[Any]) -> Any:
    """One number that all float results have a part in."""
    return sum(sum_(e.sin(y) * (k + 1.0)) for k, y in enumerate(results) if y.dtype.is_floating)


def check_gradients(loss: Any, leaves: list[Any], fed: dict[Any, Any], **close: float) -> None:
    """Along a direction in which all entries of a leaf move, for each leaf."""
    found = gradients([loss], leaves)
    got = evaluate([g for g in found if g is not None], fed)
    rng = np.random.default_rng(1)
    for x, g in zip(leaves, found, strict=True):
        way = rng.uniform(-1, 1, fed[x].shape)
        ends = [evaluate([loss], {**fed, x: fed[x] + step * way})[loss] for step in (STEP, -STEP)]
        slope = 0.0 if g is None else (got[g] * way).sum()
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * STEP), err_msg=str(x), **close)


@pytest.mark.parametrize("reverse", [False, True])
def test_meaning_is_a_loop_in_python(reverse: bool) -> None:
    leaves, (ys, last) = make("plain", 7, 3, float64, reverse)
    fed = feed(leaves, {})
    h, xs, w, u, b = (fed[n] for n in leaves)
    want = np.zeros((7, 3, H))
    for t in reversed(range(7)) if reverse else range(7):
        h = want[t] = np.tanh(xs[t] @ w + h @ u + b)
    got = evaluate([ys, last], fed)
    np.testing.assert_allclose(got[ys], want, rtol=1e-12)
    np.testing.assert_allclose(got[last], h, rtol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("name", [n for n in CASES if n != "counted"])
def test_gradient_is_that_of_differences(name: str, steps: int, reverse: bool) -> None:
    leaves, results = make(name, steps, 2, float64, reverse)
    floats = [n for n in leaves if n.dtype.is_floating]
    check_gradients(scalar(results), floats, feed(leaves, {}, seed=3), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["plain", "joined", "rows", "square", "nested", "views"])
def test_second_gradient_is_that_of_differences(name: str) -> None:
    leaves, results = make(name, 2, 2, float64)
    fed = feed(leaves, {})
    first = gradients([scalar(results)], leaves)
    loss = sum(sum_(g * g) for g in first if g is not None)
    check_gradients(loss, leaves, fed, rtol=1e-4, atol=1e-6)


def contractions(nodes: list[Any]) -> tuple[int, int]:
    """How many products there are outside of loops, and inside."""
    outside = [n for n in toposort(nodes) if n.op is CONTRACT]
    return len(outside), len([n for n in with_all_bodies(nodes) if n.op is CONTRACT]) - len(outside)


@pytest.mark.parametrize("name", ["plain", "joined"])
def test_only_the_product_with_the_state_is_done_step_by_step(name: str) -> None:
    leaves, results = make(name, 9, 4)
    assert contractions(results) == ({"plain": 1, "joined": 2}[name], 1)
    grads = [g for g in gradients([scalar(results)], leaves) if g is not None]
    forward, back = contractions(results), contractions([*results, *grads])
    assert back[1] == 2 * forward[1]  # the gradients of weights are one product each, behind the loop


def test_results_of_one_loop_share_it() -> None:
    _, results = make("joined", 9, 4)
    loops = [n for n in toposort(results) if n.op is SCAN]
    assert len({(n.inputs, n.attrs["loop"]) for n in loops}) == 1 < len(loops)


def test_equal_loops_are_one_node() -> None:
    xs, h0, w = placeholder(float32, (4, 3, I)), placeholder(float32, (3, H)), placeholder(float32, (I, H))

    def made() -> Any:
        r = Recurrence(4)
        h, x = r.state(h0), r.slice(xs)
        r.close([e.tanh(matmul(x, w) + h)])
        return r.results([r.final(0)])[0]

    assert made() is made()


def test_number_of_nodes_does_not_depend_on_the_steps() -> None:
    counts = set()
    for steps in (3, 300):
        leaves, results = make("joined", steps, 4)
        counts.add(len(with_all_bodies([g for g in gradients([scalar(results)], leaves) if g is not None])))
    assert len(counts) == 1


def test_states_keep_shape_and_type() -> None:
    r = Recurrence(3)
    h = r.state(placeholder(float32, (2, 4)))
    r.close([sum_(h, 1)])
    with pytest.raises(ShapeError, match=r"a state of shape \(2, 4\) becomes \(2,\) in one step"):
        r.results([r.final(0)])
    r = Recurrence(3)
    h = r.state(placeholder(float32, (2, 4)))
    r.close([e.cast(h, int32)])
    with pytest.raises(ShapeError, match="a state of float32 becomes int32 in one step"):
        r.results([r.final(0)])


def test_sequences_have_the_steps() -> None:
    r = Recurrence(3)
    h, x = r.state(placeholder(float32, (4,))), r.slice(placeholder(float32, (5, 4)))
    r.close([h + x])
    with pytest.raises(ShapeError, match=r"a sequence of shape \(5, 4\) has not the loop's 3 steps"):
        r.results([r.final(0)])
    with pytest.raises(ShapeError, match="a scalar has none"):
        r.slice(placeholder(float32, ()))
    r = Recurrence(3)
    r.state(placeholder(float32, ()))
    with pytest.raises(GraphError, match="1 states was closed with 0"):
        r.close([])
