"""Equal layers are lowered and written down once, and each works on its own buffers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.native import check
from tinyflow.compiler import loops
from tinyflow.compiler.forms import Alike
from tinyflow.compiler.pipeline import Build, build
from tinyflow.core.dtypes import float32
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.functions import softmax
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.movement import concat, slice_
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients

WIDTH = 24


def layers(count: int) -> tuple[list[Node], Node]:
    """The weights, and a sum of squares, of layers with a product and a pass over its rows."""
    x = placeholder(float32, (17, WIDTH))
    leaves = [x]
    for _ in range(count):
        w = placeholder(float32, (WIDTH, WIDTH))
        x = softmax(e.tanh(matmul(x, w)))
        leaves.append(w)
    return leaves, sum_(x * x)


def made(outputs: list[Node], writes: dict[Node, Node] | None = None) -> Build:
    return build(pipeline.run(outputs), writes or {})


def test_kernels_made_do_not_grow_with_the_layers() -> None:
    def own(count: int) -> int:
        leaves, y = layers(count)
        return sum(not isinstance(k, Alike) for k in made([y, *gradients([y], leaves)]).kernels)

    assert own(5) == own(9) == own(20)


@pytest.mark.parametrize("count", [3, 6])
def test_values_and_gradients(count: int) -> None:
    leaves, y = layers(count)
    random = np.random.default_rng(count)
    fed = {n: random.normal(size=n.shape).astype(np.float32) * 0.2 for n in leaves}
    check([y, *gradients([y], leaves)], fed, added=WIDTH * 17)


def test_equal_graphs_on_buffers_that_are_read_elsewhere() -> None:
    """One of two equal sums reads the same operand twice; a third is stored as a part."""
    a, b = placeholder(float32, (8, 5)), placeholder(float32, (8, 5))
    x, y = sum_(a, (1,), keepdims=True), sum_(b, (1,), keepdims=True)
    nodes = [
        e.exp(x) * y,
        e.exp(y) * x,
        e.exp(x) * x,
        concat([e.exp(x) * y, e.exp(y) * y], 1),
        slice_(e.exp(y), (1, 0), (4, 1)),
    ]
    fed = {a: np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5), b: np.ones((8, 5), np.float32)}
    check(nodes, fed, added=5)


def test_the_loops_of_a_repeated_kernel_name_its_own_buffers() -> None:
    _, y = layers(4)
    found = made([y])
    alike = [(k, c) for k, c in zip(found.kernels, found.codes, strict=True) if isinstance(k, Alike)]
    assert alike
    for k, code in alike:
        assert k.written & set(code.buffers) == code.written
        read = {x.buffer for s in k.stores for x in loops.loads(s.value)}
        assert k.recipe is not None or read | k.written == set(code.buffers)
        assert k.name in loops.show(k) and k.nodes != k.like.nodes


def test_variables_that_change_places() -> None:
    v, w = (variable(float32, (6,), name) for name in "vw")
    found = build([], {v: w * 2.0, w: v * 2.0})
    assert found.writes[0] != found.writes[1]
    slots = [set(item.buffers) for item in found.program.items]
    assert len(slots) == 2 and slots[0] != slots[1]
