"""simplify: algebra that is exact; stabilise: the same value without overflow; fold: what is known is computed.

Float rules live in two tables: those that never change a finite result, and those that make it better.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinyflow.core import expr
from tinyflow.graph.node import Node, at_line
from tinyflow.graph.op import lookup
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.control import KEPT
from tinyflow.ops.leaf import CONSTANT, constant
from tinyflow.ops.movement import EXPAND, PERMUTE, RESHAPE, expand, permute, reshape
from tinyflow.ops.reduction import SUM
from tinyflow.passes.rewrite import Rule, applier, trace, x, y

# fmt: off
EXACT = [
    Rule("add zero",         x + 0,                   x),
    Rule("zero add",         0 + x,                   x),
    Rule("subtract zero",    x - 0,                   x),
    Rule("from zero",        0 - x,                   -x),
    Rule("times one",        x * 1,                   x),
    Rule("one times",        1 * x,                   x),
    Rule("over one",         x / 1,                   x),
    Rule("times minus one",  x * -1,                  -x),
    Rule("minus one times",  -1 * x,                  -x),
    Rule("minus minus",      -(-x),                   x),  # noqa: B002
    Rule("add minus",        x + -y,                  x - y),
    Rule("minus add",        -x + y,                  y - x),
    Rule("subtract minus",   x - -y,                  x + y),
    Rule("minus times",      -x * y,                  -(x * y)),
    Rule("times minus",      x * -y,                  -(x * y)),
    Rule("minus over",       -x / y,                  -(x / y)),
    Rule("power one",        x ** 1,                  x),
    Rule("power two",        x ** 2,                  x * x),
]

STABLE = [
    Rule("log of exp",       e.log(e.exp(x)),         x),
    Rule("log of softmax",   e.log(e.exp(x) / y),     x - e.log(y)),
    Rule("log of one plus",  e.log(1 + x),            e.log1p(x)),
    Rule("log one plus",     e.log(x + 1),            e.log1p(x)),
    Rule("exp minus one",    e.exp(x) - 1,            e.expm1(x)),
    Rule("log of sigmoid",   e.log(e.sigmoid(x)),     -f.softplus(-x)),
]
# fmt: on


# ------------------------------------------------------------------------------------------ movement of movement


def reshape_of(node: Node) -> Node:
    (inner,) = node.inputs
    if inner.op is RESHAPE:
        return reshape(inner.inputs[0], node.shape)
    if inner.op is EXPAND and inner.inputs[0].shape == ():
        return expand(inner.inputs[0], node.shape)
    return node


def expand_of(node: Node) -> Node:
    (inner,) = node.inputs
    if inner.op is EXPAND:
        return expand(inner.inputs[0], node.shape)
    if inner.op is RESHAPE and inner.inputs[0].shape == ():
        return expand(inner.inputs[0], node.shape)
    return node


def permute_of(node: Node) -> Node:
    (inner,) = node.inputs
    if inner.op is PERMUTE:
        return permute(inner.inputs[0], tuple(inner.attrs["order"][d] for d in node.attrs["order"]))
    if inner.op is EXPAND and inner.inputs[0].shape == ():
        return expand(inner.inputs[0], node.shape)
    return node


def sum_of(node: Node) -> Node:
    """The sum of copies of a scalar is a product."""
    (inner,) = node.inputs
    if inner.op is EXPAND and inner.inputs[0].op is CONSTANT and node.dtype.is_floating:
        count = expr.product(inner.shape[d] for d in node.attrs["axes"])
        if isinstance(count, int):
            return expand(constant(float(inner.inputs[0].attrs["value"]) * count, node.dtype), node.shape)
    return node


def stop_of(node: Node) -> Node:
    """Gradients are made by now."""
    return node.inputs[0]


MOVEMENT: dict[object, Callable[[Node], Node]] = {
    RESHAPE: reshape_of,
    EXPAND: expand_of,
    PERMUTE: permute_of,
    SUM: sum_of,
    lookup("stop_gradient"): stop_of,
    KEPT: stop_of,
}

# ------------------------------------------------------------------------------------------ folding


def fold(node: Node) -> Node:
    """An elementwise op of constants is a constant; of stretched constants, a stretched one."""
    if not node.op.elementwise or not node.inputs:
        return node
    scalars = []
    for n in node.inputs:
        scalars.append(n.inputs[0] if n.op is EXPAND else n)
        if scalars[-1].op is not CONSTANT:
            return node
    with np.errstate(all="ignore"):
        value = node.op.numpy(*(s.dtype.numpy.type(s.attrs["value"]) for s in scalars), **node.attrs)
    value = np.asarray(value, node.dtype.numpy)[()]
    if value == 0 and np.signbit(value):
        return node  # -0.0 is written neg(0.0)
    return expand(constant(value, node.dtype), node.shape)


def simplify(node: Node) -> Node:
    """One node, its inputs being simple already."""
    while True:
        new = exact(fold(node))
        if new.op in MOVEMENT:
            moved = at_line(new, MOVEMENT[new.op](new))
            if moved is not new:
                trace("movement", new, moved)
                new = moved
        if new is node:
            return node
        node = new


exact = applier(EXACT)
stabilise = applier(STABLE)
