"""Loops of all kinds, for the tests of their meaning, their gradients and their native code.

case := (sizes of time and batch) -> leaves, results
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinyflow.core.dtypes import DType, bool_, float32, int32
from tinyflow.core.expr import Expr
from tinyflow.graph.evaluate import bind_dims
from tinyflow.graph.node import Node, substitute
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import matmul
from tinyflow.ops.control import merge, switch
from tinyflow.ops.indexing import gather, scatter_add
from tinyflow.ops.leaf import iota, placeholder
from tinyflow.ops.movement import concat, expand, permute, reshape, slice_
from tinyflow.ops.recurrence import Recurrence
from tinyflow.ops.reduction import argmax, max_, sum_

I, H = 5, 6  # features of the input, of the state
Case = tuple[list[Node], list[Node]]


class Given:
    """The leaves of a case."""

    def __init__(self, steps: Any, batch: Any, dtype: DType, reverse: bool) -> None:
        self.steps, self.batch, self.dtype, self.reverse = steps, batch, dtype, reverse
        self.leaves: list[Node] = []

    def leaf(self, *shape: Any, dtype: DType | None = None) -> Node:
        self.leaves.append(placeholder(dtype or self.dtype, shape, f"x{len(self.leaves)}"))
        return self.leaves[-1]

    def loop(self) -> Recurrence:
        return Recurrence(self.steps, self.reverse)

    def xs(self) -> Node:
        return self.leaf(self.steps, self.batch, I)

    def state(self) -> Node:
        return self.leaf(self.batch, H)


def plain(g: Given) -> list[Node]:
    r = g.loop()
    h, x = r.state(g.state()), r.slice(g.xs())
    new = e.tanh(matmul(x, g.leaf(I, H)) + matmul(h, g.leaf(H, H)) + g.leaf(H))
    r.close([new])
    return r.results([r.each(new), r.final(0)])


def joined(g: Given) -> list[Node]:
    """One weight for the input and the state, as TensorFlow's cells have it; and a product of the outputs."""
    r = g.loop()
    c, h, x = r.state(g.state()), r.state(g.state()), r.slice(g.xs())
    gates = matmul(concat([x, h], 1), g.leaf(I + H, 4 * H)) + g.leaf(4 * H)
    i, j, k, o = (slice_(gates, (0, n * H), (g.batch, H)) for n in range(4))
    new = e.sigmoid(k) * c + e.sigmoid(i) * e.tanh(j)
    out = e.sigmoid(o) * e.tanh(new)
    r.close([new, out])
    return r.results([r.final(1), r.each(e.tanh(matmul(out, g.leaf(H, 3)))), r.final(0)])


def last_only(g: Given) -> list[Node]:
    r = g.loop()
    h, x = r.state(g.state()), r.slice(g.xs())
    r.close([h * 0.5 + e.sin(sum_(x, 1, keepdims=True))])
    return r.results([r.final(0)])


def mapped(g: Given) -> list[Node]:
    """No state at all."""
    r = g.loop()
    x = r.slice(g.xs())
    r.close([])
    return r.results([r.each(f.softmax(x) * 2.0)])


def alone(g: Given) -> list[Node]:
    """No sequence at all; a state that stays, one that is a number, one that a step forgets."""
    r = g.loop()
    h, fixed, n, other = r.state(g.state()), r.state(g.state()), r.state(g.leaf()), r.state(g.state())
    r.close([e.cos(h) * n + fixed, fixed, n * 0.9, f.zeros(other.shape, g.dtype)])
    return r.results([r.final(0), r.final(1), r.final(2), r.final(3), r.each(h), r.trace(2)])


def rows(g: Given) -> list[Node]:
    """Softmax and sums in a body; what is taken from outside is computed there."""
    r = g.loop()
    scale = e.exp(g.leaf(H)) + sum_(g.leaf(7))
    h, x = r.state(g.state()), r.slice(e.tanh(g.xs()))
    new = f.softmax(h * scale) + sum_(x * x, 1, keepdims=True) - max_(h, 1, keepdims=True)
    r.close([new])
    return r.results([r.each(new * scale), r.final(0)])


def views(g: Given) -> list[Node]:
    """A sequence that is a view: turned, cut and with its axes changed."""
    r = g.loop()
    turned = permute(g.leaf(g.batch, 2, g.steps, I), (2, 0, 3, 1))
    h, x = r.state(g.state()), r.slice(slice_(turned, (0, 0, 0, 1), (g.steps, g.batch, I, 1)))
    r.close([h + matmul(reshape(x, (g.batch, I)), g.leaf(I, H))])
    return r.results([r.final(0), r.each(h * 2.0)])


def square(g: Given) -> list[Node]:
    """A product of two states, and a weight that changes."""
    r = g.loop()
    h, w, x = r.state(g.state()), r.state(g.leaf(H, H)), r.slice(g.xs())
    new = e.tanh(matmul(h, w) + matmul(x, g.leaf(I, H)))
    r.close([new, w * 0.5 + matmul(new, h, transpose_a=True) * 0.1])
    return r.results([r.final(0), r.final(1), r.each(new)])


def nested(g: Given) -> list[Node]:
    """A loop in a loop: what the inner takes from the outer, and from outside."""
    outer = g.loop()
    weights = g.leaf(H, H)
    h, x = outer.state(g.state()), outer.slice(g.xs())
    inner = Recurrence(I)
    k, column = inner.state(h), inner.slice(permute(x, (1, 0)))
    new = e.tanh(matmul(k, weights) * 0.3 + expand(reshape(column, (g.batch, 1)), (g.batch, H)) + h)
    inner.close([new])
    last, each = inner.results([inner.final(0), inner.each(new)])
    outer.close([last])
    return outer.results([outer.final(0), outer.each(sum_(each, 0)), outer.each(last)])


def chosen(g: Given) -> list[Node]:
    """A condition in the body, that the state decides on."""
    r = g.loop()
    h, x = r.state(g.state()), r.slice(g.xs())
    p = e.less(sum_(h), 0.0)
    other = switch(h, p, False)
    new = merge(p, e.tanh(other + expand(switch(sum_(x), p, False), other.shape)), matmul(switch(h, p, True), switch(g.leaf(H, H), p, True)))  # fmt: skip
    r.close([new])
    return r.results([r.final(0), r.each(new)])


def indexed(g: Given) -> list[Node]:
    """Entries of a table, by numbers that come from a sequence, and by those that the state gives."""
    r = g.loop()
    table = g.leaf(9, H)
    h, place, i = (
        r.state(g.state()),
        r.state(g.leaf(g.batch, dtype=int32)),
        r.slice(g.leaf(g.steps, g.batch, dtype=int32)),
    )
    new = h * 0.5 + gather(table, i) * gather(table, place)
    r.close([new, e.cast(argmax(new, 1), int32)])
    return r.results([r.final(0), r.final(1), r.each(place), r.each(new)])


def scattered(g: Given) -> list[Node]:
    r = g.loop()
    h, i, x = r.state(g.leaf(9, I)), r.slice(g.leaf(g.steps, g.batch, dtype=int32)), r.slice(g.xs())
    new = h + scatter_add(x, i, 9)
    r.close([new])
    return r.results([r.final(0), r.each(scatter_add(x * 2.0, i, 9))])


def counted(g: Given) -> list[Node]:
    """Whole numbers and truths as states; the number of the step as a sequence."""
    r = g.loop()
    n, seen, t = r.state(g.leaf(dtype=int32)), r.state(g.leaf(g.batch, dtype=bool_)), r.slice(iota(g.steps, int32))
    x = r.slice(g.xs())
    r.close([n * 3 + t, e.logical_or(seen, e.less(sum_(x, 1), 0.0))])
    return r.results([r.final(0), r.final(1), r.each(n), r.each(seen)])


def left_early(g: Given) -> list[Node]:
    """As long as the state is small, which it is not for long."""
    r = g.loop()
    h, w = r.state(g.state()), g.leaf(H, H)
    new = e.tanh(matmul(h, w)) + h + e.log(e.abs_(h) + 0.1)
    r.close([new], e.less(sum_(h * h), 40.0))
    return r.results([r.final(0), r.final(1)])


CASES: dict[str, Callable[[Given], list[Node]]] = {
    c.__name__: c
    for c in (
        plain,
        joined,
        last_only,
        mapped,
        alone,
        rows,
        views,
        square,
        nested,
        chosen,
        indexed,
        scattered,
        counted,
        left_early,
    )
}


def make(name: str, steps: Any, batch: Any, dtype: DType = float32, reverse: bool = False) -> Case:
    g = Given(steps, batch, dtype, reverse)
    results = CASES[name](g)
    return g.leaves, results


def feed(leaves: list[Node], sizes: Mapping[Expr, int], seed: int = 0) -> dict[Node, np.ndarray]:
    rng = np.random.default_rng(seed)
    fed = {}
    for n in leaves:
        shape = substitute(tuple(n.shape), sizes)
        drawn = (
            rng.uniform(-1, 1, shape) if n.dtype.is_floating else rng.integers(0, 2 if n.dtype is bool_ else 6, shape)
        )
        fed[n] = np.asarray(drawn).astype(n.dtype.numpy)
    return fed


__all__ = ["CASES", "bind_dims", "feed", "make"]
