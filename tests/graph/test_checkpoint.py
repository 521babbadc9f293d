"""What is computed again for the gradient, and what is not."""

from collections.abc import Callable

import numpy as np
import pytest

from tinyflow import execute, programs
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32, int64
from tinyflow.core.expr import dim
from tinyflow.graph.node import Node, toposort
from tinyflow.graph.verify import verify
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import matmul
from tinyflow.ops.control import AGAIN
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.random import uniform
from tinyflow.ops.reduction import mean, sum_
from tinyflow.passes import pipeline
from tinyflow.passes.checkpoint import LEAST, checkpoint
from tinyflow.passes.gradient import gradients

SIDE = 512
assert SIDE * SIDE * 4 >= LEAST
X = placeholder(float32, (SIDE, SIDE), "x")
KEY = placeholder(int64, (), "key")


def normalised(x: Node) -> Node:
    centred = x - mean(x, 0, keepdims=True)
    return centred / e.sqrt(mean(centred * centred, 0, keepdims=True) + 1e-5)


# fmt: off
LAYERS: dict[str, tuple[Callable[[Node], Node], set[str], float]] = {  # a layer after its product; what is computed again; the arena's part
    "gelu":       (lambda x: 0.5 * x * (1.0 + e.erf(x * 0.7071)),                                 {"erf"},     0.7),
    "batch norm": (lambda x: e.relu(normalised(x)),                                               {"div"},     0.7),
    "dropout":    (lambda x: e.where(e.less(uniform(KEY, x.shape, salt=x.uid), 0.5), x, 0.0),     {"uniform"}, 0.75),
    "tanh":       (e.tanh,                                                                        set(),       1.0),
}
# fmt: on


def network(layer: Callable[[Node], Node], depth: int = 10) -> tuple[list[Node], dict[Node, np.ndarray]]:
    """The loss, and the gradients, of layers one upon the other."""
    weights = [variable(float32, (SIDE, SIDE), f"w{k}") for k in range(depth)]
    h = X
    for w in weights:
        h = layer(matmul(h, w))
    loss = mean(h * h)
    rng = np.random.default_rng(0)
    values = {w: rng.normal(0, SIDE**-0.5, w.shape).astype("f") for w in weights}
    return [loss, *(g for g in gradients([loss], weights) if g is not None)], values


def again(nodes: list[Node]) -> set[str]:
    """The ops that are computed of what is read again."""
    order = toposort(nodes)
    inside = {n for n in order if n.op is AGAIN}
    for n in order:
        if (n.op.elementwise or n.op.name in ("expand", "uniform")) and any(x in inside for x in n.inputs):
            inside.add(n)
    return {n.op.name for n in inside}


@pytest.mark.parametrize("name", LAYERS)
def test_cheap_values_are_computed_again(name: str) -> None:
    layer, wanted, _ = LAYERS[name]
    roots, _ = network(layer)
    new = pipeline.run(roots)
    verify(new, "checkpoint")
    assert wanted <= again(new) and (wanted or not again(new))
    with config(CHECKPOINT=0):
        assert not again(pipeline.run(roots))


@pytest.mark.parametrize("name", LAYERS)
def test_results_have_the_same_bits_and_the_arena_holds_less(name: str) -> None:
    layer, _, part = LAYERS[name]
    roots, store = network(layer, 10)
    rng = np.random.default_rng(1)
    feeds = {X: rng.normal(size=X.shape).astype("f"), KEY: np.array(3)}
    values, arenas = [], []
    for flag in (0, 1):
        with config(CHECKPOINT=flag):
            programs._programs.clear()
            runner = execute.compile(roots)
            values.append(runner({p: feeds[p] for p in runner.placeholders}, dict(store)))
            arenas.append(runner.native.program.take(()).bytes)
    assert all(np.array_equal(a, b) for a, b in zip(*values))
    assert arenas[1] <= part * arenas[0]


def test_a_value_that_would_keep_more_is_not_computed_again() -> None:
    """relu of a product: instead of it the product would have to be kept."""
    roots, _ = network(e.relu)
    assert not again(pipeline.run(roots))


def test_small_values_are_left_alone() -> None:
    x = placeholder(float32, (8, 8), "x")
    h: Node = x
    for _ in range(10):
        h = LAYERS["gelu"][0](matmul(h, x))
    assert not again(pipeline.run(gradients([sum_(h)], [x])))  # type: ignore[arg-type]


def test_sizes_known_only_when_running() -> None:
    n = dim("n")
    x, ws = placeholder(float32, (n, 2048), "x"), [variable(float32, (2048, 2048), f"w{k}") for k in range(6)]
    h: Node = x
    for w in ws:
        h = f.gelu(matmul(h, w)) if hasattr(f, "gelu") else LAYERS["gelu"][0](matmul(h, w))
    found = [g for g in gradients([sum_(h)], [ws[0]]) if g is not None]
    assert set(checkpoint(found, toposort(found))) == set(toposort(found))
    rng = np.random.default_rng(0)
    store = {w: rng.normal(0, 0.02, w.shape).astype("f") for w in ws}
    feeds = {x: rng.normal(size=(5, 2048)).astype("f")}
    with config(CHECKPOINT=0):
        (want,) = execute.compile(found)(feeds, dict(store))
    programs._programs.clear()
    (got,) = execute.compile(found)(feeds, dict(store))
    assert np.array_equal(got, want)
