"""diagonals: which masks let a row see the keys up to a diagonal and no others: j <= i + c.

    value := Line(i, j, c)                a whole number: i times the row, j times the key, and c
           | Split(c, seen, hidden)       `seen` where j <= i + c, `hidden` elsewhere

A mask is read as it is made, of positions, comparisons and what is elementwise of these, whatever its size; a small one that
cannot be read is worked out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyflow.core import expr
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import Node, Shape, toposort
from tinyflow.graph.op import lookup
from tinyflow.ops.attention import visible
from tinyflow.ops.leaf import CONSTANT
from tinyflow.ops.movement import EXPAND, RESHAPE

IOTA, ADD, SUB, LESS, LESS_EQUAL = map(lookup, ("iota", "add", "sub", "less", "less_equal"))
MOST = 1 << 22  # elements of a mask that is worked out


class Line(NamedTuple):
    i: int
    j: int
    c: int


class Split(NamedTuple):
    c: int
    seen: Any
    hidden: Any


def diagonal(mask: Node, kind: str) -> int | None:
    """c, if a mask that depends on nothing keeps j <= i + c; of numbers that are added, if they are 0 there and else -infinity."""
    m, n = mask.shape[-2:]
    if any(k != 1 for k in mask.shape[:-2]) or not isinstance(m, int) or not isinstance(n, int):
        return None
    order = toposort([mask])
    if any(x.op.kind == "leaf" for x in order):
        return None
    split = read(order)
    if isinstance(split, Split):
        keeps = {"add": (0, -np.inf), "where": (True, False), "unless": (False, True)}[kind]
        return min(split.c, n - 1) if split.c >= 0 and (split.seen, split.hidden) == keeps else None
    sizes = [expr.product(x.shape) for x in order]
    return worked_out(mask, kind) if all(isinstance(k, int) and k <= MOST for k in sizes) else None


def worked_out(mask: Node, kind: str) -> int | None:
    a = evaluate([mask], {})[mask].reshape(mask.shape[-2:])
    keeps = a == 0 if kind == "add" else a ^ (kind == "unless")
    c = int(np.sum(keeps[0])) - 1
    exact = kind != "add" or bool(np.all(a[~keeps] == -np.inf))
    return c if c >= 0 and exact and np.array_equal(keeps, visible(keeps.shape, c)) else None


# ------------------------------------------------------------------------------------------ reading


def read(order: Sequence[Node]) -> Line | Split | None:
    """The last node's value, if it is one of these."""
    known: dict[Node, Line | Split | None] = {}
    for n in order:
        given = [known[x] for x in n.inputs]
        if n.op is CONSTANT:
            known[n] = constant(n.attrs["value"])
        elif n.op is IOTA:
            known[n] = Line(0, int(n.shape != (1,)), 0) if n.dtype.is_integer else None
        elif n.op is EXPAND:
            known[n] = given[0]
        elif n.op is RESHAPE:
            known[n] = reshaped(n, given[0])
        elif all(isinstance(x, Line) for x in given):
            known[n] = of_lines(n, given)  # type: ignore[arg-type]
        else:
            known[n] = of_splits(n, given)
    return known[order[-1]]


def constant(value: Any) -> Line | Split:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool | np.bool_)
    return Line(0, 0, int(value)) if whole else Split(0, value, value)


def reshaped(n: Node, value: Line | Split | None) -> Line | Split | None:
    """Axes of one place may come and go in front; positions may run down instead of along."""
    old, new = long(n.inputs[0].shape), long(n.shape)
    if old == new:
        return value
    down = len(old) == 1 and new == (*old, 1)
    return Line(value.j, 0, value.c) if down and isinstance(value, Line) and not value.i else None


def long(shape: Shape) -> Shape:
    """Without the axes in front that have one place."""
    return shape[next((d for d, k in enumerate(shape) if k != 1), len(shape)) :]


def of_lines(n: Node, given: Sequence[Line]) -> Line | Split | None:
    if n.op in (ADD, SUB, LESS, LESS_EQUAL):
        a, b = given
        sign = 1 if n.op is ADD else -1
        i, j, c = (x + sign * y for x, y in zip(a, b, strict=True))
        if n.op in (ADD, SUB):
            return Line(i, j, c)
        c += n.op is LESS
        if (i, j) == (-1, 1):  # j - i + c <= 0
            return Split(-c, True, False)
        if (i, j) == (1, -1):  # i - j + c <= 0, and so not j <= i + c - 1
            return Split(c - 1, False, True)
        return None
    return of_splits(n, given)


def of_splits(n: Node, given: Sequence[Line | Split | None]) -> Split | None:
    """Elementwise of values that change at one diagonal, and of constants."""
    values = [Split(0, x.c, x.c) if isinstance(x, Line) and not x.i and not x.j else x for x in given]
    if not n.op.elementwise or not values or not all(isinstance(x, Split) for x in values):
        return None
    places = {x.c for x in values if x.seen is not x.hidden}  # type: ignore[union-attr]
    if len(places) > 1:
        return None
    sides = []
    for side in (1, 2):
        with np.errstate(all="ignore"):
            numbers = [x.dtype.numpy.type(v[side]) for x, v in zip(n.inputs, values, strict=True)]  # type: ignore[index]
            sides.append(np.asarray(n.op.numpy(*numbers, **n.attrs))[()])
    return Split(places.pop() if places else 0, *sides)


__all__ = ["diagonal"]
