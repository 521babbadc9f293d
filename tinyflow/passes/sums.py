"""sums: column sums take out what does not vary along them, drop what adds up to nothing, and are made in two steps.

    sum(g * s)            ->  s * sum(g)                    s is the same along the summed axes
    sum(a + s*(x - m))    ->  sum(a)                        m is the mean of x: deviations add up to zero
    sum over (n, h, w)    ->  sum over n of sum over (h, w)

So the gradient of a batch normalisation, as differentiation writes it, comes down to the two sums that it needs, and
each is shared by all threads. Only sums that keep the last axis: those along rows stay with the rest of their row.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

from tinyflow.core import expr
from tinyflow.graph.node import Node, at_line, make
from tinyflow.graph.op import lookup
from tinyflow.ops.functions import zeros
from tinyflow.ops.leaf import CONSTANT
from tinyflow.ops.movement import EXPAND, PERMUTE, RESHAPE, expand, permute, reshape
from tinyflow.ops.reduction import SUM, sum_
from tinyflow.passes.rewrite import trace

ADD, SUB, MUL, DIV, NEG = map(lookup, ("add", "sub", "mul", "div", "neg"))
Axes = tuple[int, ...]
LONG = 1024  # a sum of fewer numbers is one step
PARTS = 64  # at most so many sums in the first step
FEW_PARTS = 8


def sums(node: Node) -> Node:
    if node.op is not SUM or not node.dtype.is_floating or node.inputs[0].ndim - 1 in node.attrs["axes"]:
        return node
    axes: Axes = node.attrs["axes"]
    new = added(node.inputs[0], axes)
    if new is not node:
        trace("sums", node, new)
    return at_line(node, new)


def added(x: Node, axes: Axes) -> Node:
    """The sum of x over the axes."""
    terms = list(terms_of(x, 1, axes))
    kept = [t for t in terms if not adds_up_to_nothing(t[0], axes)]
    if not kept:
        return zeros(tuple(n for d, n in enumerate(x.shape) if d not in axes), x.dtype)
    if len(kept) > 1:
        return in_steps(x if len(kept) == len(terms) else total(kept), axes)
    ((term, sign),) = kept
    found = product_of(term, axes)
    whole = in_steps(times(found.over, found.under), axes) if found.over else None
    if whole is None or not (found.constant_over or found.constant_under):
        whole = in_steps(term, axes)
    else:
        whole = times([whole, *found.constant_over], found.constant_under)
    return whole if sign > 0 else -whole


def terms_of(x: Node, sign: int, axes: Axes) -> Iterable[tuple[Node, int]]:
    if x.op is NEG:
        yield from terms_of(x.inputs[0], -sign, axes)
    elif x.op in (ADD, SUB) and not adds_up_to_nothing(x, axes):
        yield from terms_of(x.inputs[0], sign, axes)
        yield from terms_of(x.inputs[1], sign if x.op is ADD else -sign, axes)
    else:
        yield x, sign


def total(terms: list[tuple[Node, int]]) -> Node:
    """Positive terms first."""
    terms = sorted(terms, key=lambda t: -t[1])
    first = terms[0][0] if terms[0][1] > 0 else -terms[0][0]
    return reduce(lambda sum_so_far, t: sum_so_far + t[0] if t[1] > 0 else sum_so_far - t[0], terms[1:], first)


class Product(NamedTuple):
    """over / under, apart from factors that are the same along the axes: those without the axes."""

    over: list[Node]
    under: list[Node]
    constant_over: list[Node]
    constant_under: list[Node]


def product_of(x: Node, axes: Axes) -> Product:
    found = Product([], [], [], [])
    stack = [(x, True)]
    while stack:
        factor, upper = stack.pop()
        if factor.op in (MUL, DIV):
            left, right = factor.inputs
            stack += [(left, upper), (right, upper if factor.op is MUL else not upper)]
            continue
        same = constant_along(factor, axes)
        (found[2 if upper else 3] if same is not None else found[0 if upper else 1]).append(
            factor if same is None else same
        )
    for factors in found:
        factors.sort(key=lambda n: n.uid)  # so that the same factors are the same product
    return found


def times(over: list[Node], under: list[Node]) -> Node:
    y = reduce(lambda a, b: a * b, over)
    return y / reduce(lambda a, b: a * b, under) if under else y


def constant_along(x: Node, axes: Axes) -> Node | None:
    """x without some axes, along which it is the same; None if it is not."""
    kept = tuple(n for d, n in enumerate(x.shape) if d not in axes)
    if x.op is CONSTANT:
        return x
    if x.op is PERMUTE:
        order = x.attrs["order"]
        below = constant_along(x.inputs[0], tuple(order[d] for d in axes))
        if below is None:
            return None
        left = [d for d in range(x.ndim) if d not in {order[a] for a in axes}]
        return permute(below, [left.index(order[d]) for d in range(x.ndim) if d not in axes]) if kept else below
    if x.op is not EXPAND:
        return None
    (y,) = x.inputs
    lead = x.ndim - y.ndim
    if any(d >= lead and y.shape[d - lead] != 1 for d in axes):
        return None
    y = reshape(y, tuple(n for d, n in enumerate(y.shape) if d + lead not in axes))
    return expand(y, kept)


def adds_up_to_nothing(x: Node, axes: Axes) -> bool:
    """Whether x is something constant times the deviations of something from its mean along the axes."""
    found = product_of(x, axes)
    if len(found.over) != 1 or found.under or found.over[0].op is not SUB:
        return False
    value, mean = found.over[0].inputs
    mean_alone = constant_along(mean, axes)
    while mean_alone is not None and mean_alone.op in (EXPAND, RESHAPE, PERMUTE) and mean_alone.shape != ():
        mean_alone = mean_alone.inputs[0]
    return mean_alone is not None and is_mean(mean_alone, value, axes)


def is_mean(mean: Node, x: Node, axes: Axes) -> bool:
    """Whether it is sum(x) / count, as this pass writes the sum."""
    count = expr.product(x.shape[d] for d in axes)
    if mean.op is not DIV or not isinstance(count, int):
        return False
    whole, n = mean.inputs
    while n.op is EXPAND:
        n = n.inputs[0]
    while whole.op in (RESHAPE, EXPAND):
        whole = whole.inputs[0]
    return n.op is CONSTANT and n.attrs["value"] == count and whole is added(x, axes)


def in_steps(x: Node, axes: Axes) -> Node:
    """The sum over long first axes as a sum of sums: the first step is rows that threads share."""
    count = expr.product(x.shape[d] for d in axes)
    leading = axes == tuple(range(len(axes)))
    if not leading or not all(isinstance(x.shape[d], int) for d in axes) or count < LONG:  # type: ignore[operator]
        return make(SUM, x, axes=axes)
    first = x.shape[0]
    assert isinstance(first, int)
    if len(axes) > 1 and FEW_PARTS <= first <= PARTS:
        return sum_(make(SUM, x, axes=axes[1:]), 0)
    parts = next((p for p in range(min(PARTS, first), FEW_PARTS - 1, -1) if first % p == 0), None)
    if parts is None:
        return make(SUM, x, axes=axes)
    x = reshape(x, (parts, first // parts, *x.shape[1:]))
    return sum_(make(SUM, x, axes=tuple(range(1, len(axes) + 1))), 0)
